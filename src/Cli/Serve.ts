/** `cal-tokens serve`: settings from the environment, services, server. Runs until it is interrupted. */
import { randomBytes } from "node:crypto"
import * as Net from "node:net"
import { Command } from "@effect/cli"
import { HttpApiBuilder, type HttpApp, HttpServer, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Console, Duration, Effect, Layer, Option, Redacted } from "effect"
import type { CalTokens } from "../CalTokens.js"
import * as Environment from "../Environment.js"
import * as Demo from "../Environment/Demo.js"
import * as DemoRoutes from "../Environment/DemoRoutes.js"
import * as Services from "../Environment/Services.js"
import * as Ways from "../Environment/Ways.js"
import * as Form from "../Environment/Form.js"
import * as Logging from "../Environment/Logging.js"
import * as Misspelt from "../Environment/Misspelt.js"
import { unsupported } from "../Environment/Telemetry.js"
import { withoutSlashes } from "../CalHttp/CalPath.js"
import * as Http from "../Http.js"
import * as ApiKeys from "../ApiKeys.js"
import * as AtomsTokens from "../Http/AtomsTokens.js"
import * as ClientAddress from "../Http/ClientAddress.js"
import * as Edge from "../Http/Edge.js"
import * as Lifecycle from "../Http/Lifecycle.js"
import * as Origins from "../Http/Origins.js"
import * as Page from "../Http/Page.js"
import * as Server from "../Http/Server.js"
import * as ConnectFlow from "../ConnectFlow.js"
import * as RefreshAhead from "../RefreshAhead.js"
import { Sandbox } from "../Sandbox.js"
import * as TokenConfig from "../TokenConfig.js"
import type { TokenStorage } from "../TokenStorage.js"
import * as Webhook from "../Webhook.js"
import * as Announcement from "./Announcement.js"
import * as Heap from "./Heap.js"
import * as Reloading from "./Reloading.js"
import * as Telemetry from "./Telemetry.js"
import * as Wasm from "./Wasm.js"

const serve: Effect.Effect<never, Environment.StartError> = Effect.gen(function* () {
  const names = Object.keys(process.env)
  const misspelt = Misspelt.warnings(names)
  // What is missing may be there by another name.
  const settings = yield* Effect.tapError(Environment.load, () =>
    Effect.forEach(misspelt, (line) => Console.error(`cal-tokens: ${line}`))
  )
  const [odd] = Option.isSome(settings.telemetry) ? unsupported(names) : []
  if (odd !== undefined) {
    return yield* new Environment.StartError({
      message: `${odd} is not supported here: unset it, or send by way of a collector of yours`
    })
  }
  yield* tryPort(settings)
  yield* Heap.staySmall
  if (settings.cal.database._tag === "Embedded") yield* Wasm.compileOnce
  const reloading = Reloading.make(settings)
  return yield* Layer.launch(
    application(reloading).pipe(
      // Below all that has spans, so that what is left of them is sent at the end.
      Layer.provide(Option.match(settings.telemetry, { onNone: () => Layer.empty, onSome: Telemetry.layer })),
      Layer.provide(references(settings)),
      Layer.provide(Layer.effectDiscard(Effect.forEach(misspelt, (line) => Effect.logWarning(line)))),
      Layer.provide(reloading.layer),
      Layer.provide(Logging.layer(settings.log))
    )
  )
})

export const command = Command.make("serve", {}, () => serve).pipe(
  Command.withDescription("Serve the HTTP API; without a Cal.com client, a demo of it.")
)

/** The database may be started together with this process, and take longer. */
const startWithin = Duration.seconds(30)

/** Settings that parts of the service look up where they need them. */
const references = (settings: Environment.Settings) => {
  const { allowedOrigins, atomsMaxAge, config, development, proxies, trustedProxies } = settings
  return Layer.mergeAll(
    TokenConfig.layerChanged(config),
    Layer.succeed(Edge.Development, development),
    Layer.succeed(Origins.AllowedOrigins, allowedOrigins),
    Layer.succeed(AtomsTokens.MaxAge, atomsMaxAge),
    Layer.succeed(ClientAddress.TrustedProxies, trustedProxies),
    Ways.layer(proxies)
  )
}

const application = ({ apiKeys, running, settings }: Reloading.Reloading): Layer.Layer<never, Environment.StartError> =>
  Environment.Cal.$match(settings.cal, {
    Client: ({ database, options }) =>
      announceService(settings.publicUrl).pipe(
        Layer.provide(listen(settings, Http.layerWith({ publicUrl: settings.publicUrl }))),
        Layer.provide(ApiKeys.layerReloading(apiKeys())),
        Layer.provide(ConnectFlow.layer({ returnUrls: settings.returnUrls })),
        Layer.merge(besides(settings)),
        Layer.provide(Services.layerCal(database, options, { ...running, startWithin }))
      ),
    Sandbox: ({ database }) => {
      const isAlone = Form.isLoopback(settings.host)
      const key = isAlone ? Demo.wellKnownKey : Redacted.make(randomBytes(24).toString("base64url"))
      const page: Page.DemoOptions = {
        sandbox: Demo.sandboxPath.slice(1),
        key: isAlone ? Option.some(key) : Option.none()
      }
      const url = urlOf(settings.host, settings.port)
      const demo: ApiKeys.ApiKey = { name: "demo", secret: key, scopes: Demo.scopes }
      return announceDemo(database.directory, key).pipe(
        Layer.provide(
          listen(settings, Http.layerWith({ routes: sandboxRoutes(isAlone), publicUrl: settings.publicUrl }))
        ),
        Layer.provide(Layer.succeed(Page.Demo, Option.some(page))),
        Layer.provide(ApiKeys.layerReloading(apiKeys(demo))),
        Layer.provide(ConnectFlow.layer({ returnUrls: settings.returnUrls })),
        Layer.merge(besides(settings)),
        Layer.provide(Services.layerSandbox(database, url, running))
      )
    }
  })

/** Apart from the server: what is delivered, and what is refreshed, before anybody asks. */
const besides = ({
  refreshAhead,
  webhook
}: Environment.Settings): Layer.Layer<never, never, TokenStorage | CalTokens> =>
  Layer.merge(
    Option.match(webhook, { onNone: () => Layer.empty, onSome: Webhook.layer }),
    refreshAhead ? RefreshAhead.layer : Layer.empty
  )

/**
 * The sandbox for everybody who can reach the port, so that curl and the page can play Cal.com. Where only this machine can, no
 * page of another name that leads here is among them.
 */
const sandboxRoutes = (isAlone: boolean) =>
  HttpApiBuilder.Router.use((router) =>
    Effect.gen(function* () {
      const here = <E, R>(app: HttpApp.Default<E, R>) =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          isAlone && !Page.isLoopback(request) ? Effect.succeed(notHere) : app
        )
      const demo = Effect.provide(DemoRoutes.app, yield* Effect.context<DemoRoutes.Services>())
      yield* router.mountApp(DemoRoutes.path, here(demo))
      yield* router.mountApp(Demo.sandboxPath, here((yield* Sandbox).app))
    })
  )

const notHere = HttpServerResponse.unsafeJson(
  { status: "error", message: "The sandbox is for this machine: ask it at 127.0.0.1 or localhost" },
  { status: 403 }
)

const listen = <R>({ host, port }: Environment.Settings, app: Layer.Layer<never, never, R>) =>
  Server.layer({ host, port }, app).pipe(
    Layer.provide(Lifecycle.layer),
    Layer.mapError(({ cause }) => cannotListen(host, port, cause))
  )

/** The server listens last, when everything behind it is up; a port that cannot be had is told before all that. */
const tryPort = ({ host, port }: Environment.Settings) =>
  Effect.async<void, Environment.StartError>((resume) => {
    const server = Net.createServer()
    server.once("error", (cause) => resume(Effect.fail(cannotListen(host, port, cause))))
    server.listen({ host, port }, () => server.close(() => resume(Effect.void)))
  })

const cannotListen = (host: string, port: number, cause: unknown) => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown reason"
  const why =
    code === "EADDRINUSE"
      ? "the port is in use; set PORT to another one"
      : code === "EACCES"
        ? "this user may not use that port; set PORT to one above 1023"
        : code === "EADDRNOTAVAIL" || code === "ENOTFOUND"
          ? "HOST is no address of this machine"
          : code
  return new Environment.StartError({ message: `Cannot listen on ${host}:${port}: ${why}` })
}

/** Where people reach the server from this machine. */
const url = Effect.map(HttpServer.HttpServer, ({ address }) => {
  return address._tag === "UnixAddress" ? address.path : urlOf(address.hostname, address.port)
})

const urlOf = (hostname: string, port: number) =>
  addressOf(/^(0\.0\.0\.0|::)$/.test(hostname) ? "127.0.0.1" : hostname, port)

const addressOf = (host: string, port: number) => `http://${host.includes(":") ? `[${host}]` : host}:${port}`

const announceService = (publicUrl: string | undefined) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      if (address._tag === "UnixAddress") return yield* Effect.logInfo(`Listening on ${address.path}`)
      yield* Effect.logInfo(`Listening on ${addressOf(address.hostname, address.port)}`)
      const page = publicUrl !== undefined && URL.canParse(publicUrl) ? publicUrl : yield* url
      yield* Effect.logInfo(
        `To look at in a browser, with an API key that has the scope manage: ${withoutSlashes(page)}/`
      )
      if (!Form.isLoopback(address.hostname)) {
        yield* Effect.logInfo(
          "Other machines reach this address without TLS: let them come through a proxy that has it"
        )
      }
    })
  )

const announceDemo = (directory: string, key: Redacted.Redacted) =>
  Layer.merge(
    Layer.effectDiscard(
      Effect.gen(function* () {
        yield* Console.log(yield* Announcement.make({ url: yield* url, directory, key }))
      }).pipe(Effect.mapError(({ message }) => new Environment.StartError({ message })))
    ),
    Demo.layerKeep
  )
