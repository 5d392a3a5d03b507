import { Layer } from "effect"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import { layerInCompany } from "../../support/StorageCompany.js"
import { suite } from "../../support/StorageSuite.js"

const layer = Postgres.layer({ clock: "effect" }).pipe(Layer.provide(layerDatabase()), Layer.provide(layerKeys()))

suite("on PostgreSQL", layer)
suite("on PostgreSQL, in company", layerInCompany(layer))
