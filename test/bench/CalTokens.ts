/**
 * What an answer of the service costs, in processor time: `npx vite-node test/bench/CalTokens.ts [name…]`. With
 * `NO_SPANS=1` without tracing. For a profile: `node --cpu-prof node_modules/vite-node/vite-node.mjs …`.
 */
import { Duration, Effect, Layer, Logger } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"

const user = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const joiners = 500

const layer = CalTokens.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provide(Sandbox.layerHttpClient),
  Layer.provideMerge(layerMemory),
  Layer.provideMerge(
    Sandbox.layer({ switches: { rateLimits: { ...Sandbox.defaultSwitches.rateLimits, enabled: false } } })
  ),
  Layer.provide(Logger.remove(Logger.defaultLogger))
)

/** Prints what one operation took. */
const measure = <E, R, E2, R2>(
  name: string,
  options: { readonly rounds: number; readonly operations: number },
  prepare: Effect.Effect<unknown, E, R>,
  work: Effect.Effect<unknown, E2, R2>
) =>
  Effect.gen(function* () {
    const took: Array<number> = []
    for (let round = 0; round < options.rounds; round++) {
      yield* prepare
      const start = process.cpuUsage()
      yield* work
      const { system, user } = process.cpuUsage(start)
      took.push((user + system) / options.operations)
    }
    took.sort((a, b) => a - b)
    const at = (share: number) => `${took[Math.floor((took.length - 1) * share)]?.toFixed(1) ?? "?"} µs`
    yield* Effect.sync(() => console.log(`${name}: best ${at(0)}, median ${at(0.5)}, first round and alike ${at(1)}`))
  })

/** A connection whose access token has so long to live. */
const connect = (left: Duration.DurationInput) =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const grant = yield* sandbox.grantManaged({ email: "bench@example.com" })
    const accessTokenExpiresAt = (yield* sandbox.now) + Duration.toMillis(left)
    yield* tokens.connect(user, { _tag: "ManagedUser", calUserId: grant.calUserId }, { ...grant, accessTokenExpiresAt })
  })

const expired = connect(0)
const ensure = Effect.flatMap(CalTokens.CalTokens, (tokens) => tokens.ensureValid(user))
const together = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.all(
    Array.from({ length: joiners }, () => effect),
    { concurrency: "unbounded", discard: true }
  )

const benchmarks = {
  warm: measure(
    "a fresh token from memory",
    { rounds: 50, operations: 1000 },
    connect("1 hour"),
    Effect.repeatN(ensure, 999)
  ),
  alone: measure("one caller and an expired token", { rounds: 300, operations: 1 }, expired, ensure),
  joiners: measure(
    `each of ${joiners} callers and an expired token`,
    { rounds: 50, operations: joiners },
    expired,
    together(ensure)
  ),
  forks: measure(
    `each of ${joiners} fibers that do nothing`,
    { rounds: 50, operations: joiners },
    Effect.void,
    together(Effect.yieldNow())
  )
}

const wanted = process.argv.slice(2)

void Effect.forEach(Object.entries(benchmarks), ([name, run]) =>
  wanted.length === 0 || wanted.includes(name) ? run : Effect.void
).pipe(Effect.provide(layer), Effect.withTracerEnabled(process.env["NO_SPANS"] === undefined), Effect.runPromise)
