/**
 * A deployment for browsers, in one process: the sandbox as Cal.com, the service, and a website, each on a port of its
 * own. Time is the machine's, and can be moved on.
 */
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import { HttpServer, type HttpServerError } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Cause, Clock, Duration, Effect, Either, Exit, Layer, Logger, type Scope } from "effect"
import type { Browser } from "playwright-core"
import { afterAll, beforeAll, describe, it } from "vitest"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Origins from "../../src/Http/Origins.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as Chromium from "./Chromium.js"

export const apiKey = "all-scopes-key-0123456789abcdefghijkl"

const apiKeys = Either.getOrThrow(ApiKeys.parse(`app:${apiKey}:manage+read-token+proxy`))

export interface Answer {
  readonly status: number
  readonly json: Readonly<Record<string, unknown>>
}

export interface BrowserWorld {
  readonly cal: string
  readonly service: string
  /** Another site than the service's: `localhost` and not `127.0.0.1`. */
  readonly site: string
  /** A site that nobody allowed anything. */
  readonly foreign: string
  readonly sandbox: Sandbox.Sandbox["Type"]
  readonly tokens: CalTokens.CalTokens["Type"]
  /** What reached the service: method and path. */
  readonly received: Array<string>
  /** What it answered: the same, with the status. */
  readonly answered: Array<string>
  /** Decides what both sites answer. */
  readonly serve: (handler: NodeHttp.RequestListener) => void
  /** The service's API with the key, as the website's server asks it. */
  readonly api: (path: string, body?: unknown) => Promise<Answer>
  /** A new person with a browser, gone at the end of the test. */
  readonly person: (width?: number) => Promise<Chromium.Person>
  readonly pass: (duration: Duration.DurationInput) => void
  readonly run: <A, E>(effect: Effect.Effect<A, E>) => Promise<A>
}

/** The machine's clock, moved on by as much as a test says. */
const makeClock = () => {
  const real = Clock.make()
  let ahead = 0
  const unsafeCurrentTimeMillis = () => real.unsafeCurrentTimeMillis() + ahead
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis,
    unsafeCurrentTimeNanos: () => real.unsafeCurrentTimeNanos(),
    currentTimeMillis: Effect.sync(unsafeCurrentTimeMillis),
    currentTimeNanos: real.currentTimeNanos,
    sleep: (duration) => real.sleep(duration)
  }
  return { clock, pass: (duration: Duration.DurationInput) => void (ahead += Duration.toMillis(duration)) }
}

const quiet = Logger.remove(Logger.defaultLogger)

/** Connections of browsers are kept open; nobody waits for them at the end. */
const listen = (server: NodeHttp.Server) =>
  Effect.acquireRelease(
    Effect.async<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed(String((server.address() as AddressInfo).port)))
      })
    }),
    () => Effect.sync(() => void server.close().closeAllConnections())
  )

const effectServer = Effect.gen(function* () {
  const server = NodeHttp.createServer()
  const context = yield* Layer.build(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const { port } = server.address() as AddressInfo
  return { server, layer: Layer.succeedContext(context), url: `http://127.0.0.1:${port}` }
})

const make = (
  browser: Browser,
  { clock, pass }: ReturnType<typeof makeClock>
): Effect.Effect<BrowserWorld, HttpServerError.ServeError, Scope.Scope> =>
  Effect.gen(function* () {
    let handler: NodeHttp.RequestListener = (_, response) => response.writeHead(404).end()
    const handle: NodeHttp.RequestListener = (request, response) => handler(request, response)
    const site = `http://localhost:${yield* listen(NodeHttp.createServer(handle))}`
    const foreign = `http://localhost:${yield* listen(NodeHttp.createServer(handle))}`
    const calServer = yield* effectServer
    const ownServer = yield* effectServer

    const redirectUrl = `${ownServer.url}/api/cal/oauth/callback`
    const sandbox = yield* Sandbox.make({
      managed: { ...Sandbox.demoManaged, redirectUris: [site, foreign] },
      oauth2: { ...Sandbox.demoOAuth2, redirectUris: [redirectUrl] }
    })
    yield* Layer.build(Layer.provide(HttpServer.serve(sandbox.app), calServer.layer))

    const received: Array<string> = []
    const answered: Array<string> = []
    ownServer.server.on("request", ({ method, url }: NodeHttp.IncomingMessage, response: NodeHttp.ServerResponse) => {
      const asked = `${method} ${url?.replace(/\?.*/, "")}`
      received.push(asked)
      response.on("close", () => answered.push(`${asked} ${response.statusCode}`))
    })
    const { clientId, clientSecret } = Sandbox.demoOAuth2
    const oauth2 = {
      clientId,
      clientSecret,
      redirectUrl,
      authorizeUrl: `${calServer.url}/auth/oauth2/authorize`,
      scopes: ["BOOKING_READ", "PROFILE_READ"]
    }
    const services = CalApi.layer.pipe(
      Layer.provide(CalClientNode.layerApiHttp),
      Layer.provideMerge(CalTokens.layer),
      Layer.provideMerge(
        CalClient.layer({ apiUrl: `${calServer.url}/v2`, managed: Sandbox.demoManaged, oauth2 }).pipe(
          Layer.provide(CalClientNode.layerTokenHttp)
        )
      ),
      Layer.provideMerge(layerMemory),
      Layer.provide(TokenConfig.layer({ memoryMaxEntries: 1000 }))
    )
    const flow = ConnectFlow.layer({ returnUrls: [`${site}/settings`] })
    const context = yield* Layer.build(
      Http.layer.pipe(
        Layer.provide([ownServer.layer, ApiKeys.layer(apiKeys), Lifecycle.layer]),
        Layer.provide(KeyRing.layerEphemeral),
        Layer.provide(Layer.succeed(Origins.AllowedOrigins, [site])),
        Layer.provide(Layer.provide(flow, FlowStorage.layerMemory)),
        Layer.provideMerge(services)
      )
    )
    const tokens = yield* Effect.provide(CalTokens.CalTokens, context)

    const people: Array<Chromium.Person> = []
    yield* Effect.addFinalizer(() => Effect.promise(() => Promise.all(people.map(({ context }) => context.close()))))

    return {
      cal: calServer.url,
      service: ownServer.url,
      site,
      foreign,
      sandbox,
      tokens,
      received,
      answered,
      serve: (next) => void (handler = next),
      api: async (path, body) => {
        const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" }
        const request = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) }
        const response = await fetch(`${ownServer.url}/api/cal${path}`, request)
        return { status: response.status, json: (await response.json()) as Answer["json"] }
      },
      person: async (width) => {
        const next = await Chromium.person(browser, width)
        people.push(next)
        return next
      },
      pass,
      run: (effect) => Effect.runPromise(Effect.provide(Effect.withClock(effect, clock), quiet))
    }
  })

/** Tests in a browser; without one they are skipped, and their name says so. */
export const inBrowser = (
  name: string,
  define: (test: (name: string, body: (world: BrowserWorld) => Promise<void>) => void) => void
): void => {
  const executable = Chromium.executable()
  describe.skipIf(executable === undefined)(
    executable === undefined ? `${name} (skipped: no Chromium found, set CHROMIUM_PATH)` : name,
    () => {
      let browser: Browser
      beforeAll(async () => {
        browser = await Chromium.launch(executable ?? "")
      })
      afterAll(() => browser.close())
      define((name, body) =>
        it(name, async () => {
          const time = makeClock()
          const exit = await make(browser, time).pipe(
            Effect.flatMap((world) => Effect.promise(() => body(world))),
            Effect.scoped,
            Effect.withClock(time.clock),
            Effect.provide(quiet),
            Effect.runPromiseExit
          )
          if (Exit.isFailure(exit)) throw Cause.squash(exit.cause)
        }))
    }
  )
}
