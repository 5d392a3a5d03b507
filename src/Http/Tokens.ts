/** The endpoints of `Api/Tokens`. */
import { DateTime, Effect } from "effect"
import { CalTokens, type ValidToken } from "../CalTokens.js"
import type { UserUlid } from "../Token.js"
import { NotManagedUser, toSeconds } from "../TokenError.js"
import * as Authorize from "./Authorize.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

const refreshed = (token: ValidToken) => ({
  success: true as const,
  refreshed: token.refreshed,
  expiresAt: DateTime.unsafeMake(token.expiresAt),
  ...(token.retryAfter === undefined ? {} : { retryAfter: toSeconds(token.retryAfter) })
})

const ensured = Edge.answers("ensureToken", ({ expiresAt }: ValidToken) => ({
  success: true as const,
  expiresAt: DateTime.unsafeMake(expiresAt)
}))

/** In the place of a look at the token, the answer of it. */
const ensureToken = Effect.map(
  CalTokens,
  (tokens) => (_: unknown, userUlid: UserUlid) => Effect.map(tokens.ensureValid(userUlid, { handsOut: false }), ensured)
)

/** What is asked most often, in front of an app. */
export const shortcut = Effect.gen(function* () {
  const authorize = yield* Authorize.make
  return Edge.shortcut("ensureToken", authorize("manage"), yield* ensureToken)
})

export const layer = Group.make("tokens", (handlers) =>
  Effect.zipWith(CalTokens, ensureToken, (tokens, ensureToken) =>
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
      .handleRaw("ensureToken", Edge.endpoint("ensureToken", ensureToken))
  )
)
