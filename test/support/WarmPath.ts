/**
 * What 100,000 questions for a fresh token leave behind, and what they take on their way, by each door. Prints JSON. Run
 * with `--expose-gc`, and with a young generation that holds all of it: what is collected is not seen.
 */
import { createHook } from "node:async_hooks"
import { Context, Duration, Effect, Layer, Logger, ManagedRuntime, Supervisor } from "effect"
import * as Actions from "../../src/Actions.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as StorageMemory from "../../src/TokenStorage/Memory.js"
import * as Spans from "./Spans.js"

const calls = 100_000
const user = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")

export interface Taken {
  /** In bytes: of one call, and of all when they are over. */
  readonly perCall: number
  readonly kept: number
  /** How many fibers and spans were begun. */
  readonly fibers: number
  readonly spans: number
  /** How many promises, and whatever else Node waits for, such as timers. */
  readonly promises: number
  readonly others: ReadonlyArray<string>
}

let fibers = 0
class Counting extends Supervisor.AbstractSupervisor<void> {
  override readonly value = Effect.void
  override onStart() {
    fibers++
  }
}
const supervisor = new Counting()

const { names, tracer } = Spans.noting()

const collect = () => {
  globalThis.gc?.()
  globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

/** `work` makes as many calls as it is told. */
const taken = async (work: (calls: number) => unknown): Promise<Taken> => {
  // Until the code is compiled.
  for (let round = 0; round < 3; round++) await work(calls)
  const before = collect()
  await work(calls)
  const after = process.memoryUsage().heapUsed
  const kept = collect() - before

  const types = new Array<string>()
  const hook = createHook({ init: (_, type) => void types.push(type) })
  fibers = 0
  names.length = 0
  hook.enable()
  await work(1000)
  hook.disable()
  return {
    perCall: (after - before) / calls,
    kept,
    fibers,
    spans: names.length,
    promises: types.filter((type) => type === "PROMISE").length,
    others: [...new Set(types.filter((type) => type !== "PROMISE"))]
  }
}

const watched = Layer.mergeAll(
  Supervisor.addSupervisor(supervisor),
  Layer.setTracer(tracer),
  Logger.remove(Logger.defaultLogger)
)

const product = CalTokens.layer.pipe(
  Layer.provideMerge(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provideMerge(Sandbox.layerHttpClient),
  Layer.provideMerge(Sandbox.layer()),
  Layer.provide([StorageMemory.layerMemory, TokenConfig.layer({ memoryMaxAge: Duration.hours(1), maxAttempts: 1e9 })]),
  Layer.provideMerge(watched)
)

const runtime = ManagedRuntime.make(CalApi.layer.pipe(Layer.provideMerge(product)))

const measure = async () => {
  const { context } = await runtime.runtime()
  const tokens = Context.get(context, CalTokens.CalTokens)
  const sandbox = Context.get(context, Sandbox.Sandbox)
  await runtime.runPromise(
    Effect.flatMap(sandbox.grantManaged({}), (grant) =>
      tokens.connect(user, { _tag: "ManagedUser", calUserId: grant.calUserId }, grant)
    )
  )
  const cal = Actions.make({
    layer: Layer.merge(Layer.succeedContext(context), watched)
  })
  await cal.ensureValidCalToken(user)

  const program = (forceRefresh: boolean) => (calls: number) =>
    runtime.runPromise(
      Effect.gen(function* () {
        for (let n = 0; n < calls; n++) yield* tokens.ensureValid(user, { forceRefresh })
      })
    )
  const promises = (forceRefresh: boolean) => async (calls: number) => {
    for (let n = 0; n < calls; n++) await cal.ensureValidCalToken(user, forceRefresh)
  }
  const peek = (calls: number) => {
    for (let n = 0; n < calls; n++) if (tokens.peek(user) === undefined) throw new Error("nothing to see")
  }
  const few = (work: (calls: number) => unknown) => taken((calls) => work(Math.ceil(calls / 10_000)))
  return {
    peek: await taken(peek),
    program: await taken(program(false)),
    promises: await taken(promises(false)),
    // What is not warm, to see that it would be seen.
    forcedProgram: await few(program(true)),
    forcedPromises: await few(promises(true))
  }
}

export type Measured = Awaited<ReturnType<typeof measure>>

measure().then(
  (figures) => {
    console.log(JSON.stringify(figures))
    process.exit(0)
  },
  (error: unknown) => {
    console.error(error)
    process.exit(1)
  }
)
