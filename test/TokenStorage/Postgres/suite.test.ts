import { Layer } from "effect"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import { suite } from "../../support/StorageSuite.js"

suite(
  "on PostgreSQL",
  Postgres.layer({ clock: "effect" }).pipe(Layer.provide(layerDatabase()), Layer.provide(layerKeys()))
)
