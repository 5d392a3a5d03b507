/** The embedded database is for trying things out. In production it is allowed, and told at each start. */
import { Effect, Layer, Option } from "effect"
import type { Database } from "../Environment.js"
import { all } from "./Variables.js"

const warning =
  "NODE_ENV=production with the embedded database, which is not for production: a power cut may lose what was stored last, " +
  "and no second process can run. Set DATABASE_URL"

export const layer = (database: Database): Layer.Layer<never> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const stage = yield* Effect.orElseSucceed(all.NODE_ENV.config, Option.none)
      if (database._tag === "Embedded" && Option.contains(stage, "production")) yield* Effect.logWarning(warning)
    })
  )
