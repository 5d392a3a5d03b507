/** The endpoints of `Api/Health`. */
import { Clock, Duration, Effect, Option, Ref } from "effect"
import { ApiKeys } from "../ApiKeys.js"
import { TokenStorage } from "../TokenStorage.js"
import { Audit } from "./Audit.js"
import * as Group from "./Group.js"
import { Lifecycle } from "./Lifecycle.js"

/** How long the storage may take to answer. */
const pingTimeout = Duration.seconds(2)

/** How long an answer of the storage is repeated: asking for readiness needs no key, and must not load the database. */
const pingMaxAge = Duration.seconds(1)

/** The same for what is asked with a key, and counts rows. */
const missingMaxAge = Duration.seconds(30)

const ok = { status: "ok" } as const
const unavailable = { status: "unavailable" } as const

export const layer = Group.make("health", (handlers) =>
  Effect.gen(function* () {
    const lifecycle = yield* Lifecycle
    const answers = yield* storageAnswers
    const keys = yield* ApiKeys
    const { refused } = yield* Audit
    const { missingKeys } = yield* TokenStorage
    const missing = yield* remember(Effect.option(missingKeys), missingMaxAge)
    return handlers
      .handle("live", () => Effect.succeed(ok))
      .handle("ready", ({ request }) =>
        Effect.gen(function* () {
          if (yield* lifecycle.isStopping) return yield* Effect.fail(unavailable)
          if (!(yield* answers)) return yield* Effect.fail(unavailable)
          const { authorization } = request.headers
          const holder = yield* keys.holder(authorization)
          if (Option.isNone(holder)) {
            // The answer tells whether somebody has the key, so trying one leaves its trace here too.
            if (authorization !== undefined) yield* refused("key.unknown", { route: "/health/ready" })
            return ok
          }
          // Rows are of all users.
          if (holder.value.users !== undefined) return ok
          return { ...ok, missingKeys: Option.getOrUndefined(yield* missing) }
        })
      )
  })
)

/** Asks one question at a time, and at most one in so long. */
const remember = <A>(ask: Effect.Effect<A>, maxAge: Duration.Duration): Effect.Effect<Effect.Effect<A>> =>
  Effect.gen(function* () {
    const mutex = yield* Effect.makeSemaphore(1)
    const last = yield* Ref.make(Option.none<{ readonly at: number; readonly answer: A }>())
    return Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const before = Option.filter(yield* Ref.get(last), ({ at }) => now - at < Duration.toMillis(maxAge))
      if (Option.isSome(before)) return before.value.answer
      const answer = yield* ask
      yield* Ref.set(last, Option.some({ at: yield* Clock.currentTimeMillis, answer }))
      return answer
    }).pipe(mutex.withPermits(1))
  })

/** Whether the storage answers. */
const storageAnswers = Effect.gen(function* () {
  const storage = yield* TokenStorage
  let before = true
  const ask = storage.ping.pipe(
    // A driver may not let go of a wait for a connection: the timeout does not wait for it.
    Effect.disconnect,
    Effect.timeout(pingTimeout),
    Effect.match({ onFailure: () => false, onSuccess: () => true }),
    Effect.tap((answered) => {
      if (answered === before) return Effect.void
      before = answered
      return answered ? Effect.logInfo("Storage answers again") : Effect.logWarning("Storage does not answer")
    })
  )
  return yield* remember(ask, pingMaxAge)
})
