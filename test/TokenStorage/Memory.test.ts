import { layerMemory } from "../../src/TokenStorage/Memory.js"
import { suite } from "../support/StorageSuite.js"

suite("in memory", layerMemory)
