/**
 * The circuits of clients as this process sees them. One is the fleet's and belongs to the storage, which opens and closes
 * it (`TokenStorage/Circuits.ts`); here it is only remembered until its next trial, so that those who wait need not ask.
 * The other is this process's own, for faults that are its own: a client that is not configured, or a URL that leads
 * elsewhere.
 */
import { Clock, Duration, Effect } from "effect"
import { CalClientMisconfigured, CalProtocolError, type CallError } from "../TokenError.js"
import type { Options } from "../TokenConfig.js"
import type { CircuitRequest } from "../TokenStorage.js"
import type { CircuitCause } from "../TokenStorage/Circuits.js"

/** Why a client's circuit is open. */
export interface Fault {
  readonly cause: CircuitCause
  readonly reason: string
  readonly retryAfter: Duration.Duration
}

export type CircuitError = CalClientMisconfigured | CalProtocolError

export interface Circuit {
  /** Whose circuit the storage reads and writes in the same step as a user's row. */
  readonly keyOf: (clientId: string) => CircuitRequest
  /** Fails while a circuit is open and no trial is due. Takes nothing. */
  readonly look: (clientId: string) => Effect.Effect<void, CircuitError>
  /** The same of this process's own right before a call: passes while closed, and once per interval while open. */
  readonly enter: (clientId: string) => Effect.Effect<void, CircuitError>
  /** Cal.com granted a pair: nothing is wrong with this process. */
  readonly granted: (clientId: string) => Effect.Effect<void>
  /** The storage said that the fleet's circuit is open; `trialIn`: until anybody's next trial. */
  readonly heard: (clientId: string, fault: Fault, trialIn: Duration.Duration) => Effect.Effect<CircuitError>
  /** This process's own that are open. */
  readonly ownOpen: () => ReadonlyArray<OwnCircuit>
  /** A fault of this process. */
  readonly misconfigured: (clientId: string, error: CallError) => Effect.Effect<CalClientMisconfigured>
}

/**
 * A circuit of this process alone: something is wrong with its settings, or on its way to Cal.com. Instants are milliseconds
 * since the epoch, by its clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface OwnCircuit {
  readonly clientId: string
  /** For people. */
  readonly reason: string
  readonly openedAt: number
  readonly trialAt: number
}

interface Held {
  readonly fault: Omit<Fault, "retryAfter">
  /** Milliseconds since the epoch, by our clock. */
  readonly since: number
  readonly until: number
}

/** What callers are told of it. */
export const errorOf = (clientId: string, { cause, reason, retryAfter }: Fault): CircuitError =>
  cause === "drift"
    ? new CalProtocolError({ operation: "refresh", issue: reason, retryAfter })
    : new CalClientMisconfigured({ clientId, reason, retryAfter })

/** `fingerprint`: of a client's secrets and Cal.com's address, as this process has them. */
export const make = (config: Pick<Options, "circuitInterval">, fingerprint: (clientId: string) => string): Circuit => {
  const fleet = new Map<string, Held>()
  const own = new Map<string, Held & { readonly openedAt: number }>()
  const interval = Duration.toMillis(config.circuitInterval)

  /** Not while our clock was put back since. */
  const holds = ({ since, until }: Held, now: number) => now >= since && now < until

  const failIfHeld = (clientId: string, held: Held | undefined, now: number) =>
    held !== undefined && holds(held, now)
      ? Effect.fail(errorOf(clientId, { ...held.fault, retryAfter: Duration.millis(held.until - now) }))
      : Effect.void

  return {
    keyOf: (clientId) => ({ clientId, fingerprint: fingerprint(clientId), interval: config.circuitInterval }),
    look: (clientId) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.zipRight(failIfHeld(clientId, own.get(clientId), now), failIfHeld(clientId, fleet.get(clientId), now))
      ),
    enter: (clientId) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const held = own.get(clientId)
        if (held === undefined || holds(held, now)) return failIfHeld(clientId, held, now)
        own.set(clientId, { ...held, since: now, until: now + interval })
        return Effect.void
      }),
    granted: (clientId) =>
      Effect.sync(() => {
        own.delete(clientId)
        fleet.delete(clientId)
      }),
    heard: (clientId, fault, trialIn) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const { cause, reason } = fault
        // Not for longer than the usual time between two trials: somebody else may close it meanwhile.
        const until = now + Math.min(Duration.toMillis(trialIn), interval)
        fleet.set(clientId, { fault: { cause, reason }, since: now, until })
        return errorOf(clientId, fault)
      }),
    ownOpen: () =>
      Array.from(own, ([clientId, { fault, openedAt, until }]) => ({
        clientId,
        reason: fault.reason,
        openedAt,
        trialAt: until
      })),
    misconfigured: (clientId, failure) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const reason = failure._tag === "CalClientMisconfigured" ? failure.reason : failure.message
        const openedAt = own.get(clientId)?.openedAt ?? now
        own.set(clientId, { fault: { cause: "client", reason }, openedAt, since: now, until: now + interval })
        return new CalClientMisconfigured({ clientId, reason, retryAfter: config.circuitInterval })
      })
  }
}
