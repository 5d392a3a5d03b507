/**
 * One piece of work per user at a time. Whoever comes first starts it, everybody else joins. The work runs in a fiber of
 * the service and callers only await it, so a caller that gives up takes nothing from the others. (Effect's own `cached`,
 * `Cache` and `FiberMap.run` tie the work, or the waiting, to the caller that came first.)
 */
import { Effect, type Fiber } from "effect"
import type { UserUlid } from "../Token.js"
import type { Owned } from "./Owned.js"

export interface SingleFlight<A, E> {
  /** Joins the user's shared work of this kind; starts it when nothing runs. Work of another kind is awaited first. */
  readonly share: (userUlid: UserUlid, kind: string, work: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** Runs work that answers nobody else, once nothing runs for the user. */
  readonly alone: (userUlid: UserUlid, work: Effect.Effect<A, E>) => Effect.Effect<A, E>
  /** Starts shared work behind the caller's back, unless something runs for the user. */
  readonly start: (userUlid: UserUlid, kind: string, work: Effect.Effect<A, E>) => Effect.Effect<void>
  /** Waits until what runs for the user by now has ended, however it ends. */
  readonly idle: (userUlid: UserUlid) => Effect.Effect<void>
}

/** Work that runs for a user. */
export interface Running<A, E> {
  readonly kind: string | undefined
  readonly fiber: Fiber.RuntimeFiber<A, E>
}

/** `flights` is for tests to look into: users for whom nothing runs are not in it. */
export const make = <A, E>(
  owned: Owned,
  flights: Map<UserUlid, Running<A, E>> = new Map<UserUlid, Running<A, E>>()
): SingleFlight<A, E> => {
  const running = (userUlid: UserUlid) => {
    const flight = flights.get(userUlid)
    // Whoever is told of its end first may ask before the map is.
    return flight?.fiber.unsafePoll() === null ? flight : undefined
  }

  /** Forking and remembering the flight is one synchronous step: an interruption falls before or after both. */
  const takeOff = (userUlid: UserUlid, kind: string | undefined, work: Effect.Effect<A, E>) => {
    const flight: Running<A, E> = { kind, fiber: owned.runWaiting(work) }
    flights.set(userUlid, flight)
    flight.fiber.addObserver(() => {
      if (flights.get(userUlid) === flight) flights.delete(userUlid)
    })
    return flight
  }

  return {
    share: (userUlid, kind, work) => {
      const board: Effect.Effect<A, E> = Effect.suspend(() => {
        const flight = running(userUlid) ?? takeOff(userUlid, kind, work)
        return flight.kind === kind ? Effect.flatten(flight.fiber.await) : Effect.zipRight(flight.fiber.await, board)
      })
      return board
    },
    alone: (userUlid, work) => {
      const board: Effect.Effect<A, E> = Effect.suspend(() => {
        const flight = running(userUlid)
        return flight === undefined
          ? Effect.flatten(takeOff(userUlid, undefined, work).fiber.await)
          : Effect.zipRight(flight.fiber.await, board)
      })
      return board
    },
    start: (userUlid, kind, work) =>
      Effect.sync(() => {
        if (running(userUlid) === undefined) takeOff(userUlid, kind, work)
      }),
    idle: (userUlid) => Effect.suspend(() => running(userUlid)?.fiber.await ?? Effect.void)
  }
}
