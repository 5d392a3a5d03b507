/**
 * One circuit per client and process. A client-wide refusal opens it, so that a wrong secret costs one call per interval
 * instead of one per user. The brake opens it too, when users are refused for good in a number that looks like a wrong
 * key or URL: then nobody is told to reconnect for it.
 */
import { Clock, Duration, Effect } from "effect"
import type { UserUlid } from "../Token.js"
import { CalClientMisconfigured, type TokenError } from "../TokenError.js"
import type { Options } from "../TokenConfig.js"

interface State {
  /** Milliseconds since the epoch; `undefined` while closed. */
  openUntil: number | undefined
  reason: string
  /** Opened by the brake, and not because Cal.com refuses the client. */
  braked: boolean
  /** Whose refusals keep the brake on: the next trial is somebody else's, if anybody else comes. */
  readonly tried: Set<UserUlid>
  /** Answered refreshes of the last `brakeWindow`: instants, and who was refused for good, each of those once. */
  answers: Array<{ readonly at: number; readonly refused: UserUlid | undefined }>
}

export interface Circuit {
  /** Fails while open and no trial is due for this user. Takes nothing. */
  readonly look: (clientId: string, userUlid: UserUlid) => Effect.Effect<void, CalClientMisconfigured>
  /** The same right before a call: passes while closed, and once per interval while open. */
  readonly enter: (clientId: string, userUlid: UserUlid) => Effect.Effect<void, CalClientMisconfigured>
  /** Cal.com granted a pair. */
  readonly granted: (clientId: string) => Effect.Effect<void>
  /** Cal.com refuses the client. */
  readonly misconfigured: (clientId: string, error: TokenError) => Effect.Effect<CalClientMisconfigured>
  /** Cal.com refuses a user for good. A failure means that too many were, and that nobody should be marked. */
  readonly refused: (clientId: string, userUlid: UserUlid) => Effect.Effect<void, CalClientMisconfigured>
}

const closed = (): State => ({ openUntil: undefined, reason: "", braked: false, tried: new Set(), answers: [] })

export const make = (config: Pick<Options, "brakeRejections" | "brakeWindow" | "circuitInterval">): Circuit => {
  const clients = new Map<string, State>()
  const interval = Duration.toMillis(config.circuitInterval)
  const window = Duration.toMillis(config.brakeWindow)

  const at = <A, E>(clientId: string, use: (state: State, now: number) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const state = clients.get(clientId) ?? closed()
      clients.set(clientId, state)
      return use(state, now)
    })

  /** Users of whom the brake's trials were wait one interval longer, so that a healthy one gets a turn. */
  const holds = (state: State, userUlid: UserUlid, now: number) => {
    if (state.openUntil === undefined) return false
    const until = state.openUntil + (state.tried.has(userUlid) ? interval : 0)
    // Further away than that only after our clock was put back.
    return now < until && now >= state.openUntil - interval
  }

  const misconfigured = (clientId: string, state: State, now: number) =>
    new CalClientMisconfigured({
      clientId,
      reason: state.reason,
      ...(state.openUntil === undefined ? {} : { retryAfter: Duration.millis(Math.max(0, state.openUntil - now)) })
    })

  const open = (clientId: string, state: State, now: number, reason: string, braked: boolean) => {
    state.openUntil = now + interval
    state.reason = reason
    state.braked = braked
    return misconfigured(clientId, state, now)
  }

  const record = (state: State, now: number, refused?: UserUlid) => {
    state.answers = state.answers.filter(
      (answer) => answer.at > now - window && (refused === undefined || answer.refused !== refused)
    )
    state.answers.push({ at: now, refused })
  }

  return {
    look: (clientId, userUlid) =>
      at(clientId, (state, now) =>
        holds(state, userUlid, now) ? Effect.fail(misconfigured(clientId, state, now)) : Effect.void
      ),
    enter: (clientId, userUlid) =>
      at(clientId, (state, now) => {
        if (holds(state, userUlid, now)) return Effect.fail(misconfigured(clientId, state, now))
        if (state.openUntil !== undefined) state.openUntil = now + interval
        return Effect.void
      }),
    granted: (clientId) =>
      at(clientId, (state, now) => {
        if (state.openUntil !== undefined) state.answers = []
        state.openUntil = undefined
        state.tried.clear()
        record(state, now)
        return Effect.void
      }),
    misconfigured: (clientId, error) =>
      at(clientId, (state, now) => {
        state.tried.clear()
        const reason = error._tag === "CalClientMisconfigured" ? error.reason : error.message
        return Effect.succeed(open(clientId, state, now, reason, false))
      }),
    refused: (clientId, userUlid) =>
      at(clientId, (state, now) => {
        // Cal.com looks at a user only after it accepted the client: a refusal of that is over.
        if (!state.braked) state.openUntil = undefined
        const trial = state.openUntil !== undefined
        record(state, now, userUlid)
        const refusals = state.answers.filter((answer) => answer.refused !== undefined).length
        const braking = refusals >= config.brakeRejections && refusals * 2 > state.answers.length
        if (!trial && !braking) return Effect.void
        state.tried.add(userUlid)
        const reason = "it refused many users within a short time, which looks like a wrong client or URL"
        return Effect.fail(open(clientId, state, now, reason, true))
      })
  }
}
