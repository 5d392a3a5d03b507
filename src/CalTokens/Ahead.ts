/**
 * Refreshes that nobody waits for: of users who are active, before their tokens expire, and of all others, before their refresh
 * tokens do. A batch of leases is taken in one statement, and each user's attempt goes its usual way from there.
 */
import { Clock, Duration, Effect, Exit, Option } from "effect"
import type { CalClient } from "../CalClient.js"
import type { Owned } from "../Fibers/Owned.js"
import type { SingleFlight } from "../Fibers/SingleFlight.js"
import * as Spans from "../Fibers/Spans.js"
import * as Metrics from "../Metrics.js"
import type { Options } from "../TokenConfig.js"
import type { EnsureError, StorageUnavailable } from "../TokenError.js"
import { AttemptFailure, type DueClaim, type TokenStorage } from "../TokenStorage.js"
import type { Circuit } from "./Circuit.js"
import * as Claim from "./Claim.js"
import type { Commits } from "./Commit.js"
import type { Flight } from "./Flight.js"
import type { Known } from "./Known.js"
import type { Memory } from "./Memory.js"
import type { Untold } from "./Untold.js"

/**
 * A round of refreshes that nobody waits for.
 *
 * @since 0.1.0
 * @category models
 */
export interface DueRound {
  /** The refreshes that were begun: each ends with its own, and says whether that brought a pair. They go on without a listener. */
  readonly begun: ReadonlyArray<Effect.Effect<boolean>>
  /** Whether there may be more, which the limit kept from being begun. */
  readonly isMore: boolean
  /** Set where Cal.com's rate limit is left to people who wait: for how long. */
  readonly pause?: Duration.Duration | undefined
}

/** How much of a client's rate limit background work may take now, and how long until there is more. */
const spare = (
  limit: Option.Option<{
    readonly limit: number
    readonly remaining: number
    readonly resetIn: Duration.Duration
  }>,
  reserve: number,
  inFlight: number
): { readonly calls: number; readonly resetIn: Duration.Duration } =>
  Option.match(limit, {
    // Nobody asked for a while: what is begun finds out.
    onNone: () => ({ calls: Infinity, resetIn: Duration.zero }),
    onSome: ({ limit, remaining, resetIn }) => ({
      calls: Math.max(0, Math.floor(remaining - limit * reserve) - inFlight),
      resetIn
    })
  })

export const make = (deps: {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly client: typeof CalClient.Service
  readonly circuit: Circuit
  readonly owned: Owned
  readonly memory: Memory
  readonly commits: Commits
  readonly granted: Claim.Granted
  readonly flights: SingleFlight<Known, EnsureError>
  readonly fly: Flight
  readonly untold: Untold
  /** How histories name this process. */
  readonly process: string
}): ((limit: number) => Effect.Effect<DueRound, StorageUnavailable>) => {
  const { circuit, client, commits, config, flights, memory, owned, process, storage, untold } = deps
  /** By client: whose calls are under way, or about to be. */
  const inFlight = new Map<string, number>()
  const count = (clientId: string, by: number) => inFlight.set(clientId, (inFlight.get(clientId) ?? 0) + by)

  /** A pair of the user's is on its way into the storage, which did not know of it: what it would spend is spent. */
  const giveBack = ({ attemptId, claimed: { probe, row } }: DueClaim) =>
    Effect.ignore(storage.fail({ userUlid: row.userUlid, attemptId, failure: AttemptFailure.Released({ probe }) }))

  const begin = (claim: DueClaim, startedAt: number): Effect.Effect<Effect.Effect<boolean>> =>
    Effect.gen(function* () {
      const { row } = claim.claimed
      const { userUlid } = row
      const { clientId } = row.connection
      if (commits.isOffering(userUlid)) return Effect.as(owned.runToEnd(giveBack(claim)).await, false)
      const entry = yield* memory.put(row)
      const request: Claim.Request = { entry, purpose: "refresh", trigger: "ahead", rejected: false }
      count(clientId, 1)
      const grant = { attemptId: claim.attemptId, startedAt, isAhead: true, ...claim.claimed }
      // It may spend a token: a shutdown waits for it from here on.
      const fiber = owned.runToEnd(deps.granted(request, Claim.begin(request), grant), userUlid)
      fiber.addObserver(() => count(clientId, -1))
      // Whoever asks meanwhile joins. Where somebody of this process asks already, they are told by the storage.
      yield* flights.start(
        userUlid,
        deps.fly({ ...request, first: Effect.flatten(fiber.await) }).pipe(
          Effect.tapError(untold.add),
          Effect.tapError((error) => untold.tell(userUlid, error))
        )
      )
      return Effect.map(fiber.await, (exit) => Exit.isSuccess(exit) && exit.value._tag === "Landed")
    })

  /** What is begun goes on below it: a trace of its own for each user, whoever asked for the round. */
  const traced = <A>(begun: Effect.Effect<A>) =>
    Spans.within(begun, "CalTokens.refreshAhead", () => ({ root: true, captureStackTrace: false }))

  const ofClient = (clientId: string, limit: number) =>
    Effect.gen(function* () {
      const { calls, resetIn } = spare(
        yield* client.rateLimit(clientId),
        config.backgroundReserve,
        inFlight.get(clientId) ?? 0
      )
      if (calls === 0) return { begun: [], isMore: true, pause: resetIn, late: 0 }
      // A circuit of this process is none of the storage's business.
      const held = yield* Effect.either(circuit.look(clientId))
      if (held._tag === "Left") return { begun: [], isMore: false, late: 0 }
      const startedAt = yield* Clock.currentTimeMillis
      const now = yield* client.now
      const { claims, isMore } = yield* storage.claimDue({
        circuit: circuit.keyOf(clientId),
        process,
        limit: Math.min(limit, calls),
        lease: config.lease,
        cooldownWindow: config.cooldownWindow,
        maxAttempts: config.maxAttempts,
        now,
        usedSince: now - Duration.toMillis(config.aheadActiveFor)
      })
      const late = Math.max(0, ...claims.map(({ dueAt }) => now - dueAt))
      return { begun: yield* Effect.forEach(claims, (claim) => traced(begin(claim, startedAt))), isMore, late }
    })

  /** Who is asked first: by turns, so that none has all the leases while another waits. */
  let turn = 0
  return (limit) =>
    Effect.gen(function* () {
      const all = [...client.clients.managed.all.keys(), ...client.clients.oauth2.all.keys()]
      const from = turn++ % Math.max(1, all.length)
      const clientIds = [...all.slice(from), ...all.slice(0, from)]
      const begun: Array<Effect.Effect<boolean>> = []
      let isMore = false
      let late = 0
      let pause: Duration.Duration | undefined
      for (const clientId of clientIds) {
        if (owned.isClosing()) break
        if (begun.length >= limit) return { begun, isMore: true }
        // Once leases are taken they are made use of, whoever stops listening.
        const asked = yield* Effect.either(Effect.uninterruptible(ofClient(clientId, limit - begun.length)))
        if (asked._tag === "Left") {
          if (begun.length > 0) return { begun, isMore: false }
          return yield* Effect.fail(asked.left)
        }
        const round: DueRound & { readonly late: number } = asked.right
        begun.push(...round.begun)
        late = Math.max(late, round.late)
        if (round.pause === undefined) isMore ||= round.isMore
        else pause = pause === undefined ? round.pause : Duration.min(pause, round.pause)
      }
      // How late those are that wait for the limit nobody knows before they are begun.
      if (late > 0 || pause === undefined) yield* Metrics.aheadDelay(late)
      return { begun, isMore, ...(pause === undefined ? {} : { pause }) }
    })
}
