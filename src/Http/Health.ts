/** The endpoints of `Api/Health`. */
import { HttpApiBuilder } from "@effect/platform"
import { Clock, Duration, Effect, Ref } from "effect"
import { Api } from "../Api.js"
import { TokenStorage } from "../TokenStorage.js"
import { Lifecycle } from "./Lifecycle.js"

/** How long the storage may take to answer. */
const pingTimeout = Duration.seconds(2)

/** How long an answer of the storage is repeated: asking for readiness needs no key, and must not load the database. */
const pingMaxAge = Duration.seconds(1)

const ok = { status: "ok" } as const
const unavailable = { status: "unavailable" } as const

export const layer = HttpApiBuilder.group(Api, "health", (handlers) =>
  Effect.gen(function* () {
    const lifecycle = yield* Lifecycle
    const answers = yield* storageAnswers
    return handlers
      .handle("live", () => Effect.succeed(ok))
      .handle("ready", () =>
        Effect.gen(function* () {
          if (yield* lifecycle.isStopping) return yield* Effect.fail(unavailable)
          return (yield* answers) ? ok : yield* Effect.fail(unavailable)
        })
      )
  })
)

/** Whether the storage answers; one question at a time, and at most one per `pingMaxAge`. */
const storageAnswers = Effect.gen(function* () {
  const storage = yield* TokenStorage
  const mutex = yield* Effect.makeSemaphore(1)
  const last = yield* Ref.make({ at: Number.NEGATIVE_INFINITY, answered: true })
  const ask = storage.ping.pipe(
    // A driver may not let go of a wait for a connection: the timeout does not wait for it.
    Effect.disconnect,
    Effect.timeout(pingTimeout),
    Effect.match({ onFailure: () => false, onSuccess: () => true })
  )
  return Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const before = yield* Ref.get(last)
    if (now - before.at < Duration.toMillis(pingMaxAge)) return before.answered
    const answered = yield* ask
    yield* Ref.set(last, { at: yield* Clock.currentTimeMillis, answered })
    if (answered !== before.answered) {
      yield* answered ? Effect.logInfo("Storage answers again") : Effect.logWarning("Storage does not answer")
    }
    return answered
  }).pipe(mutex.withPermits(1))
})
