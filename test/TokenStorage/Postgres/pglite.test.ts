import { Layer } from "effect"
import * as Embedded from "../../../src/Embedded.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { suite } from "../../support/StorageSuite.js"

suite(
  "on PGlite",
  Postgres.layer({ clock: "effect" }).pipe(
    Layer.provide(Embedded.layer({ inMemory: true })),
    Layer.provide(layerKeys())
  )
)
