/**
 * A connection whose tokens are still to be had from Cal.com (a person consented, and there is a code to exchange), for a
 * user who may have a connection already. Cal.com's rotation deletes every refresh token of the same client and user: a
 * refresh of the old connection that ran between Cal.com's answer and our write would delete the new one. So the user's
 * lease is held meanwhile, as for a refresh, and given back as if nothing had been if no tokens come of it.
 */
import { randomUUID } from "node:crypto"
import { Clock, Duration, Effect, Option, Random, Schedule } from "effect"
import type { UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import { CalClientMisconfigured, CalUnavailable, type ConnectError } from "../TokenError.js"
import type * as TokenInput from "../TokenInput.js"
import { AttemptFailure, ClaimResult, Purpose, type TokenStorage } from "../TokenStorage.js"
import type { NewConnection } from "./Account.js"
import type { Circuit } from "./Circuit.js"
import type { Known } from "./Known.js"
import type { Notices, Watch } from "./Notices.js"
import type { Owned } from "../Fibers/Owned.js"

/**
 * A connection and its pair, fresh from Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface Obtained {
  readonly connection: NewConnection
  readonly pair: TokenInput.PairInput
}

/** The lease; `None` where there is nothing to lease, or where nobody could take it for long enough. */
type Lease = Option.Option<{ readonly attemptId: string; readonly probe: Option.Option<string> }>

/** `since`: when it was asked for, in ms by our clock; the wait for others counts from there. */
export interface Request<E> {
  readonly userUlid: UserUlid
  readonly obtain: Effect.Effect<Obtained, E>
  readonly since: number
}

/** Runs in the user's gate: in this process nothing else claims. */
export const run = <E>(
  deps: {
    readonly config: Options
    readonly storage: typeof TokenStorage.Service
    readonly circuit: Circuit
    readonly owned: Owned
    readonly notices: Notices
    /** How histories name this process. */
    readonly process: string
    /** Stores the user's connection and tells of it. */
    readonly connect: (connection: NewConnection, pair: TokenInput.PairInput) => Effect.Effect<Known, ConnectError>
  },
  { obtain, since, userUlid }: Request<E>
): Effect.Effect<Known, ConnectError | CalUnavailable | E> => {
  const { circuit, config, notices, owned, process, storage } = deps

  const release = (lease: Lease) =>
    Option.match(lease, {
      onNone: () => Effect.void,
      onSome: ({ attemptId, probe }) =>
        storage
          .fail({ userUlid, attemptId, failure: AttemptFailure.Released({ probe }) })
          .pipe(
            Effect.catchAll((error) =>
              Effect.logWarning("A lease was not given back; it will lapse").pipe(
                Effect.annotateLogs({ userUlid, error: error.message })
              )
            )
          )
    })

  /** A lost answer of the storage hides a write that took place; storing the same pair twice is storing it once. */
  const store = ({ connection, pair }: Obtained) =>
    deps.connect(connection, pair).pipe(
      Effect.retry({
        schedule: Schedule.intersect(Schedule.spaced("500 millis"), Schedule.recurUpTo(storeFor)),
        while: (error) => error._tag === "StorageUnavailable"
      })
    )

  const obtainAndStore = (lease: Lease, startedAt: number) =>
    Effect.gen(function* () {
      // Whoever slept since the claim may have lost the lease, and sends nothing any more.
      const elapsed = Math.max(0, (yield* Clock.currentTimeMillis) - startedAt)
      const left = Duration.subtract(config.attemptTimeout, Duration.millis(elapsed))
      if (Duration.lessThanOrEqualTo(left, Duration.zero)) return yield* unavailable("the attempt ran out of time")
      const timeout = Duration.min(left, config.callTimeout)
      const obtained = yield* obtain.pipe(
        Effect.timeoutFail({
          duration: timeout,
          onTimeout: () => unavailable(`no answer within ${Duration.format(timeout)}`)
        }),
        Effect.tapError((error) =>
          error instanceof CalClientMisconfigured ? circuit.misconfigured(error.clientId, error) : Effect.void
        ),
        // The same client, secret and URL as of any refresh: nothing is wrong with them.
        Effect.tap(({ connection: { clientId } }) => (clientId === undefined ? Effect.void : circuit.granted(clientId)))
      )
      return yield* store(obtained)
    }).pipe(Effect.onError(() => release(lease)))

  /** One claim, and the work if it is granted; otherwise how long to wait. */
  const step = Effect.gen(function* () {
    const attemptId = `${process}.${randomUUID()}`
    const startedAt = yield* Clock.currentTimeMillis
    // No state of the row answers, and no cooldown holds, what is not about its tokens: only whoever may be spending them
    // does. One who cannot read the row is no danger to it, and to connect anew is the cure.
    const claim = yield* storage
      .claim({
        userUlid,
        attemptId,
        lease: config.lease,
        cooldownWindow: config.cooldownWindow,
        maxAttempts: config.maxAttempts,
        purpose: Purpose.Hold()
      })
      .pipe(Effect.catchTag("TokenUnreadable", () => Effect.succeed(ClaimResult.NotFound())))
    const go = (lease: Lease) => Effect.map(obtainAndStore(lease, startedAt), (row) => ({ _tag: "Done" as const, row }))
    if (claim._tag === "Claimed") return yield* go(Option.some({ attemptId, probe: claim.probe }))
    if (claim._tag === "NotFound") return yield* go(Option.none())
    if (claim._tag !== "ProbeLater") return { _tag: "Wait" as const, pause: yield* untilNextLook }
    // Nobody spends the token before that: if it is long enough, it is as good as a lease.
    return Duration.lessThan(claim.retryAfter, config.attemptTimeout)
      ? { _tag: "Wait" as const, pause: claim.retryAfter }
      : yield* go(Option.none())
  })

  const untilNextLook = Effect.map(Random.nextRange(0.5, 1), (jitter) => Duration.times(config.pollInterval, jitter))

  const fly = Effect.fnUntraced(function* (watch: Watch) {
    while (true) {
      if (owned.isClosing()) return yield* unavailable("shutting down")
      watch.forget()
      // From the claim on nothing may cut the work: it runs in a fiber that only ends by itself.
      const result = yield* Effect.flatten(owned.runToEnd(step, userUlid).await)
      if (result._tag === "Done") return result.row
      const waited = (yield* Clock.currentTimeMillis) - since
      if (waited + Duration.toMillis(result.pause) > Duration.toMillis(config.callerWait)) {
        return yield* unavailable("a refresh of this user's tokens has not finished")
      }
      yield* watch.pause(result.pause, -Infinity)
    }
  })

  return notices.watching(userUlid, fly)
}

/** The call and its storing end well within the lease. */
const storeFor = Duration.seconds(8)

const unavailable = (reason: string) => new CalUnavailable({ operation: "connect", reason })
