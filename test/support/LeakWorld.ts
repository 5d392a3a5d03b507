/**
 * A deployment whose every word is watched: the service on the sandbox, with secrets that are long and odd, a wire that
 * a test can interfere with, and a storage that fails on demand with the row in its hands.
 */
import { randomBytes } from "node:crypto"
import { HttpClient, HttpClientError, HttpClientResponse } from "@effect/platform"
import { Cause, Context, Effect, Exit, Fiber, Layer, Option, Redacted, Ref, Stream, TestClock } from "effect"
import { assert } from "@effect/vitest"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import { layerBoth } from "../../src/CalHttp/HttpClients.js"
import * as CalTokens from "../../src/CalTokens.js"
import { Revalidation } from "../../src/Revalidation.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import * as TokenStorage from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as Witness from "./Witness.js"
import * as World from "./World.js"

/** Long enough for pieces, and with characters that look different in JSON, URLs and forms. */
const oddSecret = () =>
  [...'"\\%&=+/ ~'].map((odd) => `${randomBytes(3).toString("hex")}${odd}`).join("") + randomBytes(6).toString("hex")

/** What came over the wire, for a test to answer in Cal.com's place. */
export interface OnTheWire {
  readonly method: string
  readonly url: string
  readonly authorization: string
  readonly secretKey: string
  readonly body: string
}

/** An answer, a defect, or `undefined` to let it pass. */
export type Interference = (request: OnTheWire) => Response | Error | undefined

type Operation = keyof typeof TokenStorage.TokenStorage.Service

/** How a storage operation goes wrong. */
export type Outage = "fails" | "dies" | "fails and shows the row" | "fails after it was done"

export class LeakWorld extends Context.Tag("test/LeakWorld")<
  LeakWorld,
  {
    readonly witness: Witness.Witness
    /** Runs an operation, lets time pass until it ends, and shows its end to the witness. */
    readonly act: <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) => Effect.Effect<Exit.Exit<A, E>, never, R>
    /** The same, but only what the service itself shows of it counts. */
    readonly actUnseen: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Exit.Exit<A, E>, never, R>
    readonly interfere: (interference: Interference) => Effect.Effect<void>
    readonly outage: (outage: Outage, ...operations: ReadonlyArray<Operation>) => Effect.Effect<void>
    readonly noOutage: Effect.Effect<void>
  }
>() {}

export type Services =
  LeakWorld | CalApi.CalApi | CalTokens.CalTokens | CalClient.CalClient | Sandbox.Sandbox | TokenStorage.TokenStorage

/** Everything that is a token, from Cal.com's own records. */
const harvest = (witness: Witness.Witness, sandbox: typeof Sandbox.Sandbox.Service) =>
  Effect.map(sandbox.snapshot, (snapshot) => {
    witness.secrets.add("signing key", snapshot.signingKey)
    for (const rows of [snapshot.accessTokens, snapshot.refreshTokens, snapshot.oauth2AccessTokens]) {
      rows.forEach(({ token }) => witness.secrets.add("token", token))
    }
    snapshot.oauth2RefreshTokens.forEach(({ token }) => witness.secrets.add("refresh token's secret", token))
    snapshot.codes.forEach(({ code }) => witness.secrets.add("code", code))
  })

const wireTap = (witness: Witness.Witness, interference: Ref.Ref<Interference>) =>
  Layer.effect(
    HttpClient.HttpClient,
    Effect.map(HttpClient.HttpClient, (client) =>
      HttpClient.make((request) =>
        Effect.gen(function* () {
          const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
          witness.secrets.harvest(`${body} ${request.headers["authorization"] ?? ""}`)
          const answer = (yield* Ref.get(interference))({
            method: request.method,
            url: request.url,
            authorization: request.headers["authorization"] ?? "",
            secretKey: request.headers["x-cal-secret-key"] ?? "",
            body
          })
          if (answer instanceof Error) return yield* Effect.die(answer)
          if (answer !== undefined) {
            const text = yield* Effect.promise(() => answer.clone().text())
            witness.secrets.harvest(text)
            return HttpClientResponse.fromWeb(request, answer)
          }
          const response = yield* client.execute(request)
          witness.secrets.harvest(yield* Effect.orElseSucceed(response.text, () => ""))
          return response
        }).pipe(
          // As a client would that tells everything it knows.
          Effect.mapError((error) =>
            error._tag === "RequestError"
              ? new HttpClientError.RequestError({ request, reason: error.reason, cause: error.cause })
              : error
          )
        )
      )
    )
  )

/** What a database driver says of a row that it refuses. */
const rowError = (request: unknown) =>
  Object.assign(new Error("null value in column violates not-null constraint"), {
    detail: `Failing row contains ${reveal(request)}`,
    parameters: [reveal(request)]
  })

const reveal = (request: unknown): string =>
  JSON.stringify(request, (_, value: unknown) => (Redacted.isRedacted(value) ? Redacted.value(value) : value)) ?? ""

const brittleStorage = (outages: Ref.Ref<ReadonlyMap<string, Outage>>) =>
  Layer.effect(
    TokenStorage.TokenStorage,
    Effect.map(TokenStorage.TokenStorage, (storage) => {
      const brittle =
        <Args extends ReadonlyArray<unknown>, A, E>(
          operation: Operation,
          run: (...args: Args) => Effect.Effect<A, E>
        ) =>
        (...args: Args): Effect.Effect<A, E | StorageUnavailable> =>
          Effect.gen(function* () {
            const outage = (yield* Ref.get(outages)).get(operation)
            if (outage === undefined) return yield* run(...args)
            if (outage === "fails after it was done") yield* run(...args)
            // What the port asks of a driver: the words, and nothing of what the driver below it said.
            if (outage === "dies") return yield* Effect.die(rowError(args))
            const error = new StorageUnavailable({ operation, reason: "connection terminated" })
            return yield* Effect.fail(
              outage === "fails and shows the row" ? Object.assign(error, { cause: rowError(args) }) : error
            )
          })
      return TokenStorage.TokenStorage.of({
        ...storage,
        find: brittle("find", storage.find),
        claim: brittle("claim", storage.claim),
        spend: brittle("spend", storage.spend),
        commit: brittle("commit", storage.commit),
        fail: brittle("fail", storage.fail),
        connect: brittle("connect", storage.connect),
        update: brittle("update", storage.update),
        disconnect: brittle("disconnect", storage.disconnect),
        endSessions: brittle("endSessions", storage.endSessions)
      })
    })
  )

export interface Options {
  readonly config?: Partial<TokenConfig.Options>
  readonly storage?: Layer.Layer<TokenStorage.TokenStorage>
  /** Channels that may hold secrets in this scenario. */
  readonly except?: ReadonlyArray<string>
}

const layer = (witness: Witness.Witness, options: Options) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      yield* TestClock.setTime(World.epoch)
      const interference = yield* Ref.make<Interference>(() => undefined)
      const outages = yield* Ref.make<ReadonlyMap<string, Outage>>(new Map())
      const managedSecret = oddSecret()
      const oauth2Secret = oddSecret()
      witness.secrets.add("managed client's secret", managedSecret)
      witness.secrets.add("OAuth2 client's secret", oauth2Secret)
      const managed = { ...Sandbox.demoManaged, clientSecret: Redacted.make(managedSecret) }
      const oauth2 = { ...Sandbox.demoOAuth2, clientSecret: Redacted.make(oauth2Secret) }

      const world = Layer.effect(
        LeakWorld,
        Effect.map(Sandbox.Sandbox, (sandbox) => {
          const actUnseen = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.fork(Effect.exit(effect))
              for (let passed = 0; passed < 180_000 && fiber.unsafePoll() === null;) {
                const step = passed < 30_000 ? 250 : 5000
                yield* TestClock.adjust(step)
                passed += step
              }
              const exit = yield* Effect.flatten(Fiber.await(fiber))
              yield* harvest(witness, sandbox)
              return exit
            })
          return LeakWorld.of({
            witness,
            actUnseen,
            act: (name, effect) => Effect.tap(actUnseen(effect), (exit) => witness.noteExit(`end of ${name}`, exit)),
            interfere: (next) => Ref.set(interference, next),
            outage: (outage, ...operations) =>
              Ref.set(outages, new Map(operations.map((operation) => [operation, outage]))),
            noOutage: Ref.set(outages, new Map())
          })
        })
      )
      const revalidation = Layer.succeed(Revalidation, {
        changed: (change) => Effect.sync(() => witness.note("revalidation", change))
      })
      return CalApi.layer.pipe(
        Layer.provideMerge(CalTokens.layer),
        Layer.provideMerge(
          CalClient.layer({
            apiUrl: World.apiUrl,
            managed,
            oauth2: { ...oauth2, redirectUrl: oauth2.redirectUris[0] }
          })
        ),
        Layer.provide(layerBoth(wireTap(witness, interference))),
        Layer.provide(Sandbox.layerHttpClient),
        Layer.provide([revalidation, TokenConfig.layer(options.config ?? {})]),
        Layer.provideMerge(brittleStorage(outages)),
        Layer.provideMerge(options.storage ?? layerMemory),
        Layer.provideMerge(world),
        Layer.provideMerge(Sandbox.layer({ managed, oauth2 }))
      )
    })
  )

/** Tells the witness what was seen of a user, of all changes, and of Cal.com's records of calls. */
const lookAround = Effect.gen(function* () {
  const { witness } = yield* LeakWorld
  const tokens = yield* CalTokens.CalTokens
  const storage = yield* TokenStorage.TokenStorage
  const sandbox = yield* Sandbox.Sandbox
  const infos = yield* Effect.forEach([1, 2], (n) => Effect.exit(tokens.info(World.user(n))))
  infos.forEach((exit) => witness.note("info", exit))
  witness.note("list", yield* Effect.exit(storage.list({ limit: 100 })))
  witness.note("calls", yield* sandbox.calls)
  yield* harvest(witness, sandbox)
})

/** Runs a scenario under observation and fails if it let a secret be seen. */
export const watch = <E>(
  scenario: Effect.Effect<void, E, Services>,
  options: Options = {}
): Effect.Effect<ReadonlyMap<string, number>, E> =>
  Effect.gen(function* () {
    const witness = Witness.make()
    yield* Effect.gen(function* () {
      const tokens = yield* CalTokens.CalTokens
      yield* Effect.forkDaemon(
        Stream.runForEach(tokens.changes, (change) => Effect.sync(() => witness.note("changes", change)))
      )
      // Until the stream has subscribed.
      yield* Effect.repeatN(Effect.yieldNow(), 20)
      yield* scenario
      yield* lookAround
      // Nothing is under way when the scope closes: nobody moves the clock for it.
      yield* TestClock.adjust("2 minutes")
    }).pipe(Effect.provide(layer(witness, options)), Effect.provide(witness.layer))
    const allowed = (finding: string) => (options.except ?? []).some((channel) => finding.startsWith(`${channel}:`))
    assert.deepStrictEqual(
      (yield* witness.findings).filter((finding) => !allowed(finding)),
      []
    )
    assert.include(witness.secrets.names(), "token")
    return witness.seen()
  })

/** The error of an exit that is an ordinary failure. */
export const errorOf = <A, E>(exit: Exit.Exit<A, E>): Option.Option<E> =>
  Exit.isFailure(exit) ? Cause.failureOption(exit.cause) : Option.none()
