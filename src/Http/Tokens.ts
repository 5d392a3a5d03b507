/** The endpoints of `Api/Tokens`. */
import { DateTime, Effect } from "effect"
import { CalTokens, type ValidToken } from "../CalTokens.js"
import { NotManagedUser, toSeconds } from "../TokenError.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

const refreshed = (token: ValidToken) => ({
  success: true as const,
  refreshed: token.refreshed,
  expiresAt: DateTime.unsafeMake(token.expiresAt),
  ...(token.retryAfter === undefined ? {} : { retryAfter: toSeconds(token.retryAfter) })
})

export const layer = Group.make("tokens", (handlers) =>
  Effect.map(CalTokens, (tokens) =>
    handlers
      .handleRaw(
        "refreshToken",
        Edge.endpoint("refreshToken", ({ forceRefresh }, userUlid) =>
          Effect.map(tokens.refresh(userUlid, { forceRefresh }), refreshed)
        )
      )
      .handleRaw(
        "refreshManagedUserToken",
        Edge.endpoint("refreshManagedUserToken", ({ reissue }, userUlid) =>
          Effect.gen(function* () {
            const { connection } = yield* tokens.info(userUlid)
            if (connection._tag !== "ManagedUser") return yield* new NotManagedUser({ userUlid })
            return refreshed(yield* tokens.refresh(userUlid, { forceRefresh: true, reissue }))
          })
        )
      )
      .handleRaw(
        "ensureToken",
        Edge.endpoint("ensureToken", (_, userUlid) =>
          Effect.map(tokens.ensureValid(userUlid, { handsOut: false }), ({ expiresAt }) => ({
            success: true as const,
            expiresAt: DateTime.unsafeMake(expiresAt)
          }))
        )
      )
  )
)
