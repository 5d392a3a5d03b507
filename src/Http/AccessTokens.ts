/** The endpoint of `Api/AccessTokens`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { CalTokens } from "../CalTokens.js"
import { audit } from "./Audit.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "accessTokens", (handlers) =>
  Effect.map(CalTokens, (tokens) =>
    handlers.handleRaw(
      "getAccessToken",
      Edge.endpoint("getAccessToken", (_, userUlid) =>
        Effect.gen(function* () {
          const { accessToken, expiresAt } = yield* tokens.ensureValid(userUlid)
          yield* audit("token.read", userUlid)
          return { success: true as const, accessToken, expiresAt: DateTime.unsafeMake(expiresAt) }
        })
      )
    )
  )
)
