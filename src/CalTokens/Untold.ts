/**
 * Failed refreshes that no caller is told of, because there is none, or because the token goes on. Those have their line
 * in the log here; a failure that reaches a caller has its line where that is answered.
 */
import { Duration, Effect, Option } from "effect"
import * as Tried from "../CalHttp/Tried.js"
import type { UserUlid } from "../Token.js"
import { retryAfter, type TokenError } from "../TokenError.js"

export const log = (userUlid: UserUlid, error: TokenError): Effect.Effect<void> =>
  Effect.logWarning("Refresh failed").pipe(
    Effect.annotateLogs({
      userUlid,
      operation: "refresh",
      code: error._tag,
      error: error.message,
      ...Tried.fieldsOf(error),
      ...Option.match(retryAfter(error), {
        onNone: () => ({}),
        onSome: (wait) => ({ retryAfter: Duration.format(wait) })
      })
    })
  )

export interface Untold {
  /** A refresh failed, for whoever waits for it. */
  readonly add: (error: TokenError) => Effect.Effect<void>
  /** Somebody kept it from a caller. Of all who waited for one refresh the first has it logged. */
  readonly tell: (userUlid: UserUlid, error: TokenError) => Effect.Effect<void>
}

export const make = (): Untold => {
  const untold = new WeakSet<TokenError>()
  return {
    // What only holds the next attempts back was told with the failure that it came of.
    add: (error) => Effect.sync(() => void (error._tag === "RefreshCoolingDown" || untold.add(error))),
    tell: (userUlid, error) => Effect.suspend(() => (untold.delete(error) ? log(userUlid, error) : Effect.void))
  }
}
