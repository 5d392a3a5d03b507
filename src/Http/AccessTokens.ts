/** The endpoint of `Api/AccessTokens`. */
import { DateTime, Effect } from "effect"
import { CalTokens } from "../CalTokens.js"
import { audit } from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

export const layer = Group.make("accessTokens", (handlers) =>
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
