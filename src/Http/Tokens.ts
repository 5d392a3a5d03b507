/** The endpoints of `Api/Tokens`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { EnsureToken, RefreshManagedUserToken, RefreshToken } from "../Api/Tokens.js"
import { CalTokens, type ValidToken } from "../CalTokens.js"
import { NotManagedUser, toSeconds } from "../TokenError.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"

const refreshed = (token: ValidToken) => ({
  success: true as const,
  refreshed: token.refreshed,
  expiresAt: DateTime.unsafeMake(token.expiresAt),
  ...(token.retryAfter === undefined ? {} : { retryAfter: toSeconds(token.retryAfter) })
})

export const layer = HttpApiBuilder.group(Api, "tokens", (handlers) =>
  Effect.map(CalTokens, (tokens) =>
    handlers
      .handleRaw("refreshToken", () =>
        Effect.gen(function* () {
          yield* Edge.operation("refreshToken")
          const { forceRefresh, userUlid } = yield* Body.json(RefreshToken)
          return refreshed(yield* tokens.refresh(yield* Edge.user(userUlid), { forceRefresh }))
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("refreshManagedUserToken", () =>
        Effect.gen(function* () {
          yield* Edge.operation("refreshManagedUserToken")
          const { reissue, userUlid: input } = yield* Body.json(RefreshManagedUserToken)
          const userUlid = yield* Edge.user(input)
          const { connection } = yield* tokens.info(userUlid)
          if (connection._tag !== "ManagedUser") return yield* new NotManagedUser({ userUlid })
          return refreshed(yield* tokens.refresh(userUlid, { forceRefresh: true, reissue }))
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("ensureToken", () =>
        Effect.gen(function* () {
          yield* Edge.operation("ensureToken")
          const { userUlid } = yield* Body.json(EnsureToken)
          const { expiresAt } = yield* tokens.ensureValid(yield* Edge.user(userUlid), { handsOut: false })
          return { success: true as const, expiresAt: DateTime.unsafeMake(expiresAt) }
        }).pipe(Edge.refuseAll)
      )
  )
)
