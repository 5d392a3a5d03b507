/**
 * The secrets of a client. Cal.com keeps two of them alive while one replaces the other; revoking one is immediate, and
 * tokens survive it (its documentation of OAuth clients). It looks at the secret before it looks at a token, so when it
 * refuses the one, nothing was spent, and the same call may be made with the other.
 */
import { Clock, Effect, Redacted } from "effect"
import type * as Transport from "../CalHttp/Transport.js"
import * as Outcome from "./Outcome.js"

/**
 * One secret, or the two of a client that is changing them, in any order.
 *
 * @since 0.1.0
 * @category models
 */
export type ClientSecret = Redacted.Redacted | readonly [Redacted.Redacted, Redacted.Redacted?]

/** `Secret` may be `undefined`: a public client has none. */
export interface Secrets<Secret> {
  /**
   * Sends with the secret that worked last and, if Cal.com refuses that one, with the other. Nothing is sent a second time
   * after `deadline` (in milliseconds, by our clock): whoever made the call may have given its token up by then.
   */
  readonly use: <E>(
    send: (secret: Secret) => Effect.Effect<Transport.Reply, E>,
    deadline?: number
  ) => Effect.Effect<Transport.Reply, E>
}

/** Without repetition. */
export const list = (configured: ClientSecret): readonly [Redacted.Redacted, Redacted.Redacted?] => {
  const [first, other] = Redacted.isRedacted(configured) ? [configured] : configured
  return other === undefined || Redacted.value(other) === Redacted.value(first) ? [first] : [first, other]
}

/** {@link list} of what is asked for each time: the same list until the secret is another one. */
export const lists = <Secret extends ClientSecret | undefined>(now: () => Secret) => {
  type List = readonly [Extract<Secret, undefined> | Redacted.Redacted, Redacted.Redacted?]
  const listOf = (secret: Secret) => (secret === undefined ? [undefined] : list(secret)) as List
  let secret = now()
  let listed = listOf(secret)
  return (): List => {
    const next = now()
    if (next !== secret) listed = listOf((secret = next))
    return listed
  }
}

/** Which one worked last is remembered until the secrets are others. */
export const make = <Secret extends Redacted.Redacted | undefined>(
  clientId: string,
  configuredNow: () => readonly [Secret, Secret?]
): Secrets<Secret> => {
  let configured = configuredNow()
  let order = configured
  return {
    use: (send, deadline = Infinity) =>
      Effect.gen(function* () {
        const now = configuredNow()
        if (now !== configured) order = configured = now
        const [tried, other] = order
        const reply = yield* send(tried)
        if (other === undefined || !Outcome.refusesSecret(reply)) return reply
        if ((yield* Clock.currentTimeMillis) >= deadline) return reply
        const second = yield* send(other)
        // Of those that find out at the same time, one says it.
        if (!Outcome.refusesSecret(second) && order[0] === tried) {
          order = [other, tried]
          const place = tried === configured[0] ? "first" : "second"
          yield* Effect.logWarning(
            `Cal.com refuses the ${place} of the client's two secrets; the other one is used`
          ).pipe(Effect.annotateLogs({ clientId }))
        }
        return second
      })
  }
}
