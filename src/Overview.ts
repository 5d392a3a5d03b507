/**
 * How the whole service stands, for whoever operates it: what its users' histories tell of the last hour, what their rows
 * tell of the next, and what this process knows besides. One reading serves all who ask, and what is dear to read serves them longer.
 */
import { Cause, Clock, Duration, Effect, Exit, Option } from "effect"
import { CalClient, type ClientBudget } from "./CalClient.js"
import { CalTokens } from "./CalTokens.js"
import * as Minutes from "./Overview/Minutes.js"
import type { StorageUnavailable } from "./TokenError.js"
import * as Activity from "./TokenStorage/Activity.js"
import type { CircuitCause } from "./TokenStorage/Circuits.js"
import { type Counts, exactly, TokenStorage } from "./TokenStorage.js"
import { version } from "./Version.js"

export interface OpenCircuit {
  /** `process`: of this process alone. */
  readonly cause: CircuitCause | "process"
  readonly clientId: string
  readonly reason: string
  readonly openedAt: number
  readonly nextTrialAt: number
}

/** Instants are milliseconds since the epoch. */
export interface Overview {
  /** When it was read, by this process's clock. */
  readonly at: number
  readonly process: { readonly name: string; readonly startedAt: number; readonly version: string }
  readonly users: {
    readonly active: number
    readonly reauthorizationRequired: number
    /** There are so many that the database's own estimate stands for their number. */
    readonly isEstimated: boolean
  }
  /** Of the whole fleet. */
  readonly refreshes: Minutes.Hour
  readonly expiries: {
    readonly overdue: number
    /** All {@link Activity.span} that come, the running one first, in Cal.com's time. */
    readonly minutes: ReadonlyArray<{ readonly at: number; readonly users: number }>
  }
  /** As Cal.com told this process. */
  readonly budgets: ReadonlyArray<ClientBudget>
  readonly circuits: ReadonlyArray<OpenCircuit>
  readonly sealedAnswers: number
  readonly pairsHeld: number
}

/** In ms: for so long a reading is used again. */
const shortest = 1000

/** The same in times what the reading took: it occupies a connection for no more than so small a part of the time. */
const rest = 20

/** What is read again when it has rested, with the time that reading it takes. What is dear to read keeps nothing else waiting. */
const resting = <A>(read: Effect.Effect<readonly [took: Duration.Duration, value: A], StorageUnavailable>) => {
  let known: { readonly value: A; readonly from: number; readonly until: number } | undefined
  return {
    forget: Effect.sync(() => void (known = undefined)),
    value: Effect.gen(function* () {
      const begun = yield* Clock.currentTimeMillis
      if (known !== undefined && begun >= known.from && begun < known.until) return known.value
      const [took, value] = yield* read
      const from = yield* Clock.currentTimeMillis
      known = { value, from, until: from + Math.max(shortest, rest * Duration.toMillis(took)) }
      return value
    })
  }
}

/** How it stands by now, or stood a moment ago. */
export const make: Effect.Effect<
  Effect.Effect<Overview, StorageUnavailable>,
  never,
  CalTokens | CalClient | TokenStorage
> = Effect.gen(function* () {
  const tokens = yield* CalTokens
  const client = yield* CalClient
  const storage = yield* TokenStorage
  const minutes = Minutes.make()
  const one = yield* Effect.makeSemaphore(1)
  let known:
    | { readonly exit: Exit.Exit<Overview, StorageUnavailable>; readonly from: number; readonly until: number }
    | undefined

  const hour = resting(
    Effect.gen(function* () {
      const since = minutes.since()
      let [took, activity] = yield* Effect.timed(storage.activity(since))
      let isWhole = since === undefined
      if (minutes.wentBack(activity.at)) {
        minutes.forget()
        activity = yield* storage.activity(undefined)
        isWhole = true
      }
      minutes.take(activity)
      while (activity.until <= activity.at) {
        activity = yield* storage.activity(activity.until)
        minutes.take(activity)
        isWhole = true
      }
      // The hour is not read again: what that took says nothing of the next reading.
      if (isWhole) took = Duration.zero
      return [took, minutes.hour()] as const
    })
  )
  const counts = resting(Effect.timed(storage.counts))
  const outlook = resting(
    Effect.gen(function* () {
      const calNow = yield* client.now
      const [took, { circuits, minutes, overdue }] = yield* Effect.timed(storage.outlook(calNow))
      const ending = new Map(minutes.map(({ at, users }) => [at, users]))
      const expiries = {
        overdue,
        minutes: Array.from({ length: Activity.span }, (_, n) => {
          const at = Activity.minuteOf(calNow) + n * Activity.minute
          return { at, users: ending.get(at) ?? 0 }
        })
      }
      return [took, { circuits, expiries }] as const
    })
  )

  /** All users are counted for it. Of circuits it is known by less whether there are others. */
  const outlookWith = ({ circuits: open }: Counts) =>
    Effect.flatMap(outlook.value, (found) => {
      const isSame = (["client", "brake", "drift"] as const).every(
        (cause) => found.circuits.filter((each) => each.cause === cause).length === open[cause]
      )
      return isSame ? Effect.succeed(found) : Effect.zipRight(outlook.forget, outlook.value)
    })

  const reading = Effect.gen(function* () {
    const refreshes = yield* hour.value
    const counted = yield* counts.value
    const { circuits, expiries } = yield* outlookWith(counted)
    const { sealed, users } = counted
    const standing = yield* tokens.standing
    return {
      at: yield* Clock.currentTimeMillis,
      process: { name: standing.process, startedAt: standing.startedAt, version },
      users: { ...users, isEstimated: users.active + users.reauthorizationRequired >= exactly },
      refreshes,
      expiries,
      budgets: yield* client.budgets,
      circuits: [
        ...circuits.map(({ trialAt, ...circuit }) => ({ ...circuit, nextTrialAt: trialAt })),
        ...standing.circuits.map(({ trialAt, ...circuit }) => ({
          cause: "process" as const,
          ...circuit,
          nextTrialAt: trialAt
        }))
      ],
      sealedAnswers: sealed,
      pairsHeld: standing.pairsHeld
    } satisfies Overview
  })

  /** A failure is told for as long: whoever asks again finds the storage back soon. */
  const anew = Effect.gen(function* () {
    const begun = yield* Clock.currentTimeMillis
    if (known !== undefined && begun >= known.from && begun < known.until) return yield* known.exit
    const exit = yield* Effect.exit(reading)
    const from = yield* Clock.currentTimeMillis
    known =
      Exit.isSuccess(exit) || Option.isSome(Cause.failureOption(exit.cause))
        ? { exit, from, until: from + shortest }
        : undefined
    return yield* exit
  })

  return one.withPermits(1)(anew)
})
