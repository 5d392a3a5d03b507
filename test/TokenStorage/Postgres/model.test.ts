import { Layer } from "effect"
import * as Embedded from "../../../src/Embedded.js"
import * as Postgres from "../../../src/TokenStorage/Postgres.js"
import { layerKeys } from "../../support/Keys.js"
import { layerDatabase } from "../../support/Postgres.js"
import { layerInCompany } from "../../support/StorageCompany.js"
import { compare } from "../../support/StorageModel.js"

compare(
  "PGlite",
  Postgres.layer({ clock: "effect" }).pipe(
    Layer.provideMerge(Embedded.layer({ inMemory: true })),
    Layer.provide(layerKeys())
  ),
  15
)

compare(
  "PostgreSQL",
  Postgres.layer({ clock: "effect" }).pipe(Layer.provideMerge(layerDatabase()), Layer.provide(layerKeys())),
  30
)

compare(
  "PostgreSQL, whose claims and commits travel with others",
  Postgres.layer({ clock: "effect" }).pipe(
    Layer.provideMerge(layerDatabase()),
    Layer.provide(layerKeys()),
    layerInCompany
  ),
  30
)
