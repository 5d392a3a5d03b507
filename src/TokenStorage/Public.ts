/** `TokenStorage` as the library shows it: the port, and the one storage that needs no driver. */
export * from "../TokenStorage.js"
export { layerMemory } from "./Memory.js"
