/**
 * One piece of work per user at a time. Whoever comes first starts it, everybody else joins. The work runs in a fiber of
 * the service and callers only await it, so a caller that gives up takes nothing from the others. (Effect's own `cached`,
 * `Cache` and `FiberMap.run` tie the work, or the waiting, to the caller that came first.)
 */
import { Duration, Effect, type Exit, type Fiber } from "effect"
import type { UserUlid } from "../Token.js"
import { awaiting, type Deadline, type Wait } from "./Deadline.js"
import type { Owned } from "./Owned.js"
import * as Spans from "./Spans.js"

export interface SingleFlight<A, E> {
  /**
   * Joins the user's shared work; starts it when nothing runs. Work that is alone is awaited first. `wait`: for how long;
   * the work goes on after that.
   */
  readonly share: (userUlid: UserUlid, work: Effect.Effect<A, E>, wait?: Wait<E>) => Effect.Effect<A, E>
  /** The same, if shared work runs by now. */
  readonly joining: (userUlid: UserUlid, wait: Wait<E>) => Effect.Effect<Exit.Exit<A, E>> | undefined
  /** Whether anything runs for the user. */
  readonly isRunning: (userUlid: UserUlid) => boolean
  /** Runs work that answers nobody else, once nothing runs for the user. `wait` as above. */
  readonly alone: <E2>(userUlid: UserUlid, work: Effect.Effect<A, E2>, wait?: Wait<E2>) => Effect.Effect<A, E2>
  /** Starts shared work behind the caller's back, unless something runs for the user. */
  readonly start: (userUlid: UserUlid, work: Effect.Effect<A, E>) => Effect.Effect<void>
  /** Waits until what runs for the user by now has ended, however it ends. */
  readonly idle: (userUlid: UserUlid) => Effect.Effect<void>
}

/** Work that runs for a user. What runs alone concerns others by its end only. */
export type Running<A, E> = Shared<A, E> | Alone<unknown, unknown>

interface Shared<A, E> {
  readonly isShared: true
  readonly fiber: Fiber.RuntimeFiber<A, E>
}

interface Alone<A, E> {
  readonly isShared: false
  readonly fiber: Fiber.RuntimeFiber<A, E>
}

/** `flights` is for tests to look into: users for whom nothing runs are not in it. */
export const make = <A, E>(
  { deadline, owned }: { readonly owned: Owned; readonly deadline: Deadline },
  flights: Map<UserUlid, Running<A, E>> = new Map<UserUlid, Running<A, E>>()
): SingleFlight<A, E> => {
  const running = (userUlid: UserUlid) => {
    const flight = flights.get(userUlid)
    // Whoever is told of its end first may ask before the map is.
    return flight?.fiber.unsafePoll() === null ? flight : undefined
  }

  /** What is remembered was forked in the same synchronous step: an interruption falls before or after both. */
  const takeOff = <F extends Running<A, E>>(userUlid: UserUlid, flight: F): F => {
    flights.set(userUlid, flight)
    flight.fiber.addObserver(() => {
      if (flights.get(userUlid) === flight) flights.delete(userUlid)
    })
    return flight
  }

  const takeOffShared = (userUlid: UserUlid, work: Effect.Effect<A, E>) =>
    takeOff(userUlid, { isShared: true, fiber: owned.runWaiting(work) } satisfies Shared<A, E>)

  const endOf = <B, E2>(fiber: Fiber.RuntimeFiber<B, E2>, wait: Wait<E2> | undefined) =>
    wait === undefined ? fiber.await : awaiting(deadline, fiber, wait)

  /** Waits for somebody else's work, however that ends, and goes on with what is left of the wait. */
  const after = <B, E2>(
    { fiber }: Running<A, E>,
    wait: Wait<E2> | undefined,
    next: (left: Wait<E2> | undefined) => Effect.Effect<B, E2>
  ): Effect.Effect<B, E2> =>
    wait === undefined
      ? Effect.zipRight(fiber.await, next(wait))
      : Effect.flatMap(Effect.timed(awaiting<unknown, unknown, E2>(deadline, fiber, wait)), ([took]) =>
          fiber.unsafePoll() === null
            ? Effect.fail(wait.onLate())
            : next({ ...wait, longest: Math.max(0, wait.longest - Math.round(Duration.toMillis(took))) })
        )

  const share: SingleFlight<A, E>["share"] = (userUlid, work, wait) =>
    Effect.suspend(() => {
      const isFirst = running(userUlid) === undefined
      const flight = running(userUlid) ?? takeOffShared(userUlid, work)
      if (flight.isShared) {
        const end = endOf(flight.fiber, wait)
        return Effect.flatten(isFirst ? end : Spans.joining(flight.fiber, end))
      }
      return after(flight, wait, (left) => share(userUlid, work, left))
    })

  const alone: SingleFlight<A, E>["alone"] = <E2>(userUlid: UserUlid, work: Effect.Effect<A, E2>, wait?: Wait<E2>) =>
    Effect.suspend((): Effect.Effect<A, E2> => {
      const flight = running(userUlid)
      if (flight !== undefined) return after(flight, wait, (left) => alone(userUlid, work, left))
      const { fiber } = takeOff(userUlid, { isShared: false, fiber: owned.runWaiting(work) } satisfies Alone<A, E2>)
      return Effect.flatten(endOf(fiber, wait))
    })

  return {
    share,
    joining: (userUlid, wait) => {
      const flight = running(userUlid)
      return flight?.isShared === true ? Spans.joining(flight.fiber, awaiting(deadline, flight.fiber, wait)) : undefined
    },
    isRunning: (userUlid) => running(userUlid) !== undefined,
    alone,
    start: (userUlid, work) =>
      Effect.sync(() => {
        if (running(userUlid) === undefined) takeOffShared(userUlid, work)
      }),
    idle: (userUlid) => Effect.suspend(() => running(userUlid)?.fiber.await ?? Effect.void)
  }
}
