/** Tokens without a protocol: what is asked of them can be read back, what they advise is scripted. */
import { Context, Duration, Effect, Layer, Redacted, Ref, Stream } from "effect"
import { Advice, CalTokens, type ValidToken } from "../../src/CalTokens.js"
import type { EnsureError } from "../../src/TokenError.js"

export interface Report {
  readonly accessToken: string
  readonly status: number
  readonly isSecond?: true
}

export type Scripted = Effect.Effect<Advice, EnsureError>

export class FakeTokens extends Context.Tag("test/FakeTokens")<
  FakeTokens,
  {
    /** Users that `ensureValid` was asked for. */
    readonly ensured: Effect.Effect<ReadonlyArray<string>>
    readonly reports: Effect.Effect<ReadonlyArray<Report>>
    /** What `ensureValid` answers from now on. */
    readonly setToken: (token: Effect.Effect<string, EnsureError>) => Effect.Effect<void>
    /** What the next reports are answered, in this order; then `GiveUp`. */
    readonly advise: (...advices: ReadonlyArray<Scripted>) => Effect.Effect<void>
  }
>() {}

const validToken = (accessToken: string): ValidToken => ({
  accessToken: Redacted.make(accessToken),
  expiresAt: Date.UTC(2100, 0, 1),
  version: 1,
  refreshed: false
})

export const retryWith = (accessToken: string, delay: Duration.DurationInput = 0): Scripted =>
  Effect.succeed(Advice.Retry({ token: validToken(accessToken), delay: Duration.decode(delay) }))

export const giveUp: Scripted = Effect.succeed(Advice.GiveUp())

export const layer: Layer.Layer<FakeTokens | CalTokens> = Layer.effectContext(
  Effect.gen(function* () {
    const token = yield* Ref.make<Effect.Effect<string, EnsureError>>(Effect.succeed("token-1"))
    const advices = yield* Ref.make<ReadonlyArray<Scripted>>([])
    const ensured = yield* Ref.make<ReadonlyArray<string>>([])
    const reports = yield* Ref.make<ReadonlyArray<Report>>([])
    const unused = () => Effect.dieMessage("not part of this test")
    return Context.make(FakeTokens, {
      ensured: Ref.get(ensured),
      reports: Ref.get(reports),
      setToken: (next) => Ref.set(token, next),
      advise: (...next) => Ref.set(advices, next)
    }).pipe(
      Context.add(CalTokens, {
        peek: () => undefined,
        ensureValid: (userUlid) =>
          Ref.update(ensured, (all) => [...all, userUlid]).pipe(
            Effect.zipRight(Effect.flatten(Ref.get(token))),
            Effect.map(validToken)
          ),
        reportRejected: (_, { accessToken, isSecond, status }) =>
          Ref.update(reports, (all) => [
            ...all,
            { accessToken: Redacted.value(accessToken), status, ...(isSecond === true ? { isSecond } : {}) }
          ]).pipe(Effect.zipRight(Ref.modify(advices, ([first = giveUp, ...rest]) => [first, rest])), Effect.flatten),
        refresh: unused,
        connect: unused,
        connectWith: unused,
        importConnections: unused,
        update: unused,
        disconnect: unused,
        beginSession: unused,
        sessionsAfter: unused,
        endSessions: unused,
        info: unused,
        handedOut: unused,
        refreshDue: unused,
        holdsUnstored: Effect.succeed(false),
        standing: Effect.succeed({ process: "fake", startedAt: 0, pairsHeld: 0, circuits: [] }),
        salvage: Effect.void,
        changes: Stream.empty
      })
    )
  })
)
