/** The endpoint of `Api/AccessTokens`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { CalTokens } from "../CalTokens.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "accessTokens", (handlers) =>
  Effect.map(CalTokens, (tokens) =>
    handlers.handleRaw("getAccessToken", ({ path }) =>
      Effect.gen(function* () {
        yield* Edge.operation("getAccessToken")
        const { accessToken, expiresAt } = yield* tokens.ensureValid(yield* Edge.user(path.userUlid))
        return { success: true as const, accessToken, expiresAt: DateTime.unsafeMake(expiresAt) }
      }).pipe(Edge.refuseAll)
    )
  )
)
