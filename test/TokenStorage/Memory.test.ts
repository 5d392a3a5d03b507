import * as TokenStorage from "../../src/TokenStorage.js"
import { suite } from "../support/StorageSuite.js"

suite("in memory", TokenStorage.layerMemory)
