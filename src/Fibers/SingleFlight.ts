/**
 * One piece of work per user at a time. Whoever comes first starts it, everybody else joins. The work runs in a fiber of
 * the service and callers only await it, so a caller that gives up takes nothing from the others. (Effect's own `cached`,
 * `Cache` and `FiberMap.run` tie the work, or the waiting, to the caller that came first.)
 */
import { Duration, Effect, type Fiber } from "effect"
import type { UserUlid } from "../Token.js"
import { awaiting, type Deadline, type Wait } from "./Deadline.js"
import type { Owned } from "./Owned.js"

export interface SingleFlight<A, E> {
  /**
   * Joins the user's shared work; starts it when nothing runs. Work that is alone is awaited first. `wait`: for how long;
   * the work goes on after that.
   */
  readonly share: (userUlid: UserUlid, work: Effect.Effect<A, E>, wait?: Wait<E>) => Effect.Effect<A, E>
  /** Runs work that answers nobody else, once nothing runs for the user. `wait` as above. */
  readonly alone: (userUlid: UserUlid, work: Effect.Effect<A, E>, wait?: Wait<E>) => Effect.Effect<A, E>
  /** Starts shared work behind the caller's back, unless something runs for the user. */
  readonly start: (userUlid: UserUlid, work: Effect.Effect<A, E>) => Effect.Effect<void>
  /** Waits until what runs for the user by now has ended, however it ends. */
  readonly idle: (userUlid: UserUlid) => Effect.Effect<void>
}

/** Work that runs for a user. */
export interface Running<A, E> {
  readonly isShared: boolean
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

  /** Forking and remembering the flight is one synchronous step: an interruption falls before or after both. */
  const takeOff = (userUlid: UserUlid, isShared: boolean, work: Effect.Effect<A, E>) => {
    const flight: Running<A, E> = { isShared, fiber: owned.runWaiting(work) }
    flights.set(userUlid, flight)
    flight.fiber.addObserver(() => {
      if (flights.get(userUlid) === flight) flights.delete(userUlid)
    })
    return flight
  }

  const endOf = ({ fiber }: Running<A, E>, wait: Wait<E> | undefined) =>
    wait === undefined ? fiber.await : awaiting(deadline, fiber, wait)

  /** Waits for somebody else's work, however that ends, and goes on with what is left of the wait. */
  const after = (
    flight: Running<A, E>,
    wait: Wait<E> | undefined,
    next: (left: Wait<E> | undefined) => Effect.Effect<A, E>
  ): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.timed(endOf(flight, wait)), ([took, exit]) => {
      if (flight.fiber.unsafePoll() === null) return exit
      return next(wait && { ...wait, longest: Math.max(0, wait.longest - Math.round(Duration.toMillis(took))) })
    })

  const share: SingleFlight<A, E>["share"] = (userUlid, work, wait) =>
    Effect.suspend(() => {
      const flight = running(userUlid) ?? takeOff(userUlid, true, work)
      return flight.isShared
        ? Effect.flatten(endOf(flight, wait))
        : after(flight, wait, (left) => share(userUlid, work, left))
    })

  const alone: SingleFlight<A, E>["alone"] = (userUlid, work, wait) =>
    Effect.suspend(() => {
      const flight = running(userUlid)
      return flight === undefined
        ? Effect.flatten(endOf(takeOff(userUlid, false, work), wait))
        : after(flight, wait, (left) => alone(userUlid, work, left))
    })

  return {
    share,
    alone,
    start: (userUlid, work) =>
      Effect.sync(() => {
        if (running(userUlid) === undefined) takeOff(userUlid, true, work)
      }),
    idle: (userUlid) => Effect.suspend(() => running(userUlid)?.fiber.await ?? Effect.void)
  }
}
