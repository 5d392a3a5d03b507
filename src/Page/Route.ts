/** Where in the page one is: the part of the address behind `#`. */
import { parse, type Route, toHash } from "./Hash.js"
import * as Store from "./Store.js"

export { type Route, toHash } from "./Hash.js"

const hash: Store.Store<string> = Store.make(location.hash, () => {
  const read = () => hash.set(location.hash)
  read()
  window.addEventListener("hashchange", read)
  return () => window.removeEventListener("hashchange", read)
})

export const useRoute = (): Route => parse(Store.useStore(hash))

export const go = (route: Route): void => {
  location.hash = toHash(route)
}

/** Changes the address without a step in the browser's history: for what is typed. */
export const replace = (route: Route): void => {
  history.replaceState(null, "", toHash(route))
  hash.set(location.hash)
}
