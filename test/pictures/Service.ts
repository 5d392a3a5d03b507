/** The service of the story on a port, where its time stands still: two looks at it show the same. */
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import { NodeHttpServer } from "@effect/platform-node"
import { Deferred, Effect, Either, Layer, Schedule, type Scope } from "effect"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as CallerLimits from "../../src/Http/CallerLimits.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as KeyRing from "../../src/KeyRing.js"
import { Driver, Process } from "../simulation/Driver.js"
import * as Prng from "../simulation/Prng.js"
import * as Story from "./Story.js"

export interface Service extends Story.Told {
  readonly url: string
}

/** Of whoever looks. */
export const apiKey = "key-of-whoever-looks-at-it-0123456789"

const apiKeys = Either.getOrThrow(ApiKeys.parse(`operations:${apiKey}:manage`))

/** Windows never pass where time stands still. */
const unlimited = { perKey: Infinity, perAddress: Infinity, failuresPerAddress: Infinity }

/** After so many operations a fiber lets others run. */
const yieldAfter = 2048

export const make = (users: number): Effect.Effect<Service, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const driver = new Driver(Story.beginning, Prng.make(1, "driver"), false, yieldAfter)
    const process = new Process(driver, "service", 1, 0)
    const server = NodeHttp.createServer()
    // Node would say what time it is elsewhere.
    server.on("request", (_, response: NodeHttp.ServerResponse) => {
      response.setHeader("date", new Date(driver.now).toUTCString())
    })
    const served = Http.layer.pipe(
      Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })),
      Layer.provide([ApiKeys.layer(apiKeys), Lifecycle.layer, CallerLimits.layerConfig(unlimited)]),
      Layer.provide(Layer.provide(ConnectFlow.layer({}), FlowStorage.layerMemory)),
      Layer.provide(KeyRing.layerEphemeral),
      Layer.provideMerge(Story.layer)
    )
    const built = yield* Deferred.make<void, unknown>()
    const told = yield* Deferred.make<Story.Told, unknown>()
    const running = process.fork(
      Effect.gen(function* () {
        const context = yield* Layer.build(served)
        yield* Deferred.succeed(built, undefined)
        yield* Deferred.succeed(told, yield* Effect.provide(Story.play(users), context))
        return yield* Effect.never
      }).pipe(
        Effect.scoped,
        Effect.onError((cause) => Effect.zipRight(Deferred.failCause(built, cause), Deferred.failCause(told, cause)))
      )
    )
    yield* Effect.addFinalizer(() => Effect.sync(() => process.interrupt(running)))
    // What the process does, at the instant that it is for it.
    const drained = Effect.sync(() => driver.run(driver.now, () => false))
    yield* Effect.forkScoped(Effect.repeat(drained, Schedule.spaced("2 millis")))
    yield* Deferred.await(built)
    driver.run(Story.end, () => false)
    const story = yield* Deferred.await(told)
    return { ...story, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  })
