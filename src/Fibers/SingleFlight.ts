/**
 * The gate in front of a user's refresh: whoever comes first starts it, everybody else joins. The work runs in a fiber of
 * the service and callers only await it, so a caller that gives up takes nothing from the others. (Effect's own
 * `cached`, `Cache` and `FiberMap.run` tie the work, or the waiting, to the caller that came first.)
 *
 * A gate also mirrors the user's cooldown, so that a loop is ended without asking the storage. Gates of idle users are
 * dropped.
 */
import { Clock, Duration, Effect, type Fiber, Option, Ref } from "effect"
import type { UserUlid } from "../Token.js"
import type { Owned } from "./Owned.js"

/** Until when, by our clock, refreshing a certain pair is pointless. */
export interface Cooldown {
  /** Milliseconds since the epoch. Before it the clock was put back, and `until` says nothing. */
  readonly since: number
  /** Milliseconds since the epoch. */
  readonly until: number
  /** The pair's version: another pair is not held. */
  readonly version: number
  /** Whether its access token was expired by then: the first attempt after an expiry is never held. */
  readonly expired: boolean
  /** The tag of the failure that started it. */
  readonly lastError: string | undefined
}

interface Flight<A, E> {
  readonly kind: string
  readonly fiber: Fiber.RuntimeFiber<A, E>
}

interface UserGate<A, E> {
  readonly semaphore: Effect.Semaphore
  readonly cooldown: Ref.Ref<Option.Option<Cooldown>>
  flight: Flight<A, E> | undefined
  /** Callers between their entry and their exit. */
  inside: number
}

export interface Gates<A, E> {
  /**
   * Joins the user's running work of this kind, or starts it unless `admit` fails for the cooldown in force. Running
   * work of another kind is awaited first.
   */
  readonly join: <E2>(
    userUlid: UserUlid,
    kind: string,
    admit: (cooldown: Option.Option<Cooldown>) => Effect.Effect<void, E2>,
    work: Effect.Effect<A, E>
  ) => Effect.Effect<A, E | E2>
  /** Like `join`, without waiting for the result. */
  readonly start: <E2>(
    userUlid: UserUlid,
    kind: string,
    admit: (cooldown: Option.Option<Cooldown>) => Effect.Effect<void, E2>,
    work: Effect.Effect<A, E>
  ) => Effect.Effect<void, E2>
  readonly setCooldown: (userUlid: UserUlid, cooldown: Option.Option<Cooldown>) => Effect.Effect<void>
  /** How many users have a gate; for tests and metrics. */
  readonly size: Effect.Effect<number>
}

/** How many of the oldest gates are looked at when a new one is made. */
const sweepBatch = 4

export const make = <A, E>(owned: Owned): Gates<A, E> => {
  const gates = new Map<UserUlid, UserGate<A, E>>()

  const dropIfIdle = (userUlid: UserUlid, gate: UserGate<A, E>) =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const cooldown = yield* Ref.get(gate.cooldown)
      const cooling = Option.exists(cooldown, ({ since, until }) => since <= now && until > now)
      if (gate.inside === 0 && gate.flight === undefined && !cooling && gates.get(userUlid) === gate) {
        gates.delete(userUlid)
      }
    })

  /** The oldest gates first: those that only waited for a cooldown to end go a few at a time. */
  const sweep = Effect.suspend(() => {
    const oldest: Array<[UserUlid, UserGate<A, E>]> = []
    for (const entry of gates) {
      oldest.push(entry)
      if (oldest.length === sweepBatch) break
    }
    return Effect.forEach(oldest, ([userUlid, gate]) => dropIfIdle(userUlid, gate), { discard: true })
  })

  const enter = (userUlid: UserUlid) =>
    Effect.suspend(() => {
      const existing = gates.get(userUlid)
      if (existing !== undefined) {
        existing.inside++
        return Effect.succeed(existing)
      }
      const gate: UserGate<A, E> = {
        semaphore: Effect.unsafeMakeSemaphore(1),
        cooldown: Ref.unsafeMake<Option.Option<Cooldown>>(Option.none()),
        flight: undefined,
        inside: 1
      }
      gates.set(userUlid, gate)
      return Effect.as(sweep, gate)
    })

  const within = <B, E2>(userUlid: UserUlid, use: (gate: UserGate<A, E>) => Effect.Effect<B, E2>) =>
    Effect.acquireUseRelease(enter(userUlid), use, (gate) =>
      Effect.suspend(() => {
        gate.inside--
        return dropIfIdle(userUlid, gate)
      })
    )

  /** Forking and remembering the flight is one synchronous step: an interruption falls before or after both. */
  const takeOff = (userUlid: UserUlid, gate: UserGate<A, E>, kind: string, work: Effect.Effect<A, E>) =>
    Effect.sync(() => {
      const landed = Effect.suspend(() => {
        gate.flight = undefined
        return dropIfIdle(userUlid, gate)
      })
      const flight: Flight<A, E> = { kind, fiber: owned.runWaiting(Effect.ensuring(work, landed)) }
      gate.flight = flight
      // A shutdown may interrupt it before it begins: then nothing of it runs, and who awaits its end would do so for ever.
      flight.fiber.addObserver(() => {
        if (gate.flight === flight) gate.flight = undefined
      })
      return flight
    })

  /** The flight in the air, of whatever kind, or a new one of ours. */
  const board = <E2>(
    userUlid: UserUlid,
    gate: UserGate<A, E>,
    kind: string,
    admit: (cooldown: Option.Option<Cooldown>) => Effect.Effect<void, E2>,
    work: Effect.Effect<A, E>
  ): Effect.Effect<Flight<A, E>, E2> =>
    gate.semaphore.withPermits(1)(
      Effect.suspend(() =>
        gate.flight === undefined
          ? Effect.zipRight(Effect.flatMap(Ref.get(gate.cooldown), admit), takeOff(userUlid, gate, kind, work))
          : Effect.succeed(gate.flight)
      )
    )

  return {
    join: (userUlid, kind, admit, work) =>
      within(userUlid, (gate) =>
        Effect.gen(function* () {
          while (true) {
            const flight = yield* board(userUlid, gate, kind, admit, work)
            if (flight.kind === kind) return yield* Effect.flatten(flight.fiber.await)
            yield* flight.fiber.await
          }
        })
      ),
    start: (userUlid, kind, admit, work) =>
      within(userUlid, (gate) => Effect.asVoid(board(userUlid, gate, kind, admit, work))),
    setCooldown: (userUlid, cooldown) =>
      Option.isNone(cooldown) && !gates.has(userUlid)
        ? Effect.void
        : within(userUlid, (gate) => Ref.set(gate.cooldown, cooldown)),
    size: Effect.sync(() => gates.size)
  }
}

/** The time left of a cooldown that holds this version at `now`, if it does. */
export const remaining = (
  cooldown: Option.Option<Cooldown>,
  pair: { readonly version: number; readonly expired: boolean },
  now: number
): Option.Option<Duration.Duration> =>
  Option.filterMap(cooldown, ({ expired, since, until, version }) =>
    version === pair.version && (expired || !pair.expired) && since <= now && until > now
      ? Option.some(Duration.millis(until - now))
      : Option.none()
  )
