/**
 * The operator's page: constant texts, and the session that it asks with. It reads and does what any key with `manage` may,
 * through the endpoints that are there for everybody. The texts come from `src/Page`, when somebody asks for them.
 */
import { HttpApiBuilder, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Chunk, Context, Effect, Option, Redacted, Schema } from "effect"
import * as Failure from "../Api/Failure.js"
import { ApiKeys, type KeyHolder, refusesUser } from "../ApiKeys.js"
import * as Spans from "../Fibers/Spans.js"
import { iso } from "../Token.js"
import { InvalidInput } from "../TokenError.js"
import { Audit } from "./Audit.js"
import * as Authorize from "./Authorize.js"
import * as Body from "./Body.js"
import * as Constant from "./Constant.js"
import * as Edge from "./Edge.js"
import { header, PageSession, type Session } from "./PageSession.js"

/** What the page finds where it belongs to a demo: nothing there is worth a guard, and Cal.com does what it is told. */
export interface DemoOptions {
  /** Where the simulator is, as the page finds it. */
  readonly sandbox: string
  /** A key that everybody knows: on this machine nobody has to sign in. */
  readonly key: Option.Option<Redacted.Redacted>
}

/** None: this is no demo. */
export class Demo extends Context.Reference<Demo>()("cal-tokens/Http/PageDemo", {
  defaultValue: (): Option.Option<DemoOptions> => Option.none()
}) {}

const sessionPath = "/page/session"

const headers = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'"
  ].join("; "),
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY"
}

const html = "text/html; charset=utf-8"

/** Where each text is, and what it is. */
const texts = {
  "/": ["html", html],
  "/page/app.js": ["script", "text/javascript; charset=utf-8"],
  "/page/app.css": ["style", "text/css; charset=utf-8"],
  "/page/icon.svg": ["icon", "image/svg+xml"]
} as const

const textOf = ([name, contentType]: (typeof texts)[keyof typeof texts]) =>
  Constant.lazily(
    Effect.flatMap(
      Effect.promise(() => import("#page")),
      (page) => Constant.make(page[name], contentType, headers)
    )
  )

/** A browser on this machine asks for this machine. A page of another name that leads here is somebody else's. */
export const isLoopback = ({ headers }: HttpServerRequest.HttpServerRequest) =>
  /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i.test(headers["host"] ?? "")

const wrongKey = Failure.service("Unauthorized", "This API key is not known here, or its time is over.")

const login = Body.json(Schema.Struct({ key: Schema.String.annotations({ title: "an API key" }) }))

/** Whoever opens a prefix in a browser may leave the slash at its end out. */
export const entrance = (method: string, url: string): string =>
  url.startsWith("/") || (method !== "GET" && method !== "HEAD") ? url : `/${url}`

const pathOf = (url: string) => url.split("?", 1)[0] ?? ""

export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const page = yield* PageSession
    if (Option.isNone(page)) return
    const sessions = page.value
    // Whoever serves something else there goes on to.
    const paths: ReadonlySet<string> = new Set([...Object.keys(texts), sessionPath])
    if (Chunk.some((yield* router.router).routes, ({ path }) => paths.has(path))) return
    const demo = yield* Demo
    const keys = yield* ApiKeys
    const byKey = yield* Authorize.keyed
    const authorize = yield* Authorize.make
    const audit = yield* Audit

    const describe = ({ caller, expiresAt }: Session) =>
      HttpServerResponse.unsafeJson({
        success: true,
        name: caller.name,
        expiresAt: iso(expiresAt),
        demo: Option.isSome(demo),
        ...(Option.isSome(demo) ? { sandbox: demo.value.sandbox } : {})
      })

    /** What another site makes a browser send is not looked at. */
    const own = Effect.filterOrElse(
      HttpServerRequest.HttpServerRequest,
      (request) => request.headers[header] === "1" && sessions.isOwn(request),
      () => Authorize.elsewhere
    )

    const begin = (request: HttpServerRequest.HttpServerRequest, holder: KeyHolder) =>
      Effect.flatMap(
        sessions.begin(request, holder),
        Option.match({ onNone: () => Edge.decline(wrongKey), onSome: Effect.succeed })
      )

    const enter = Effect.gen(function* () {
      const request = yield* own
      // A form of another site can send JSON, too, but not call it so.
      if (request.headers["content-type"] === undefined) return yield* Edge.refuse(notJson)
      const { key } = yield* Edge.refuseAll(login)
      const holder = yield* Effect.mapError(byKey(`Bearer ${key}`, "manage"), (failure) =>
        failure._tag === "Unauthorized" ? wrongKey : failure
      )
      yield* Edge.refuseAll(Edge.permit(holder, refusesUser(holder, undefined))).pipe(
        Effect.provideService(Audit, audit)
      )
      const { onto, session } = yield* begin(request, holder)
      yield* (yield* audit.trail)("page.opened", { key: holder.name })
      return onto(describe(session))
    })

    const look = Effect.gen(function* () {
      yield* authorize("manage")
      const found = yield* sessions.of(yield* HttpServerRequest.HttpServerRequest)
      // Whoever has a key has no session by that.
      return yield* Option.match(Option.flatMap(found, Option.getRight), {
        onNone: () => Edge.decline(Authorize.over),
        onSome: (session) => Effect.succeed(describe(session))
      })
    })

    const leave = Effect.gen(function* () {
      const away = yield* sessions.end(yield* own)
      return away(HttpServerResponse.unsafeJson({ success: true }))
    })

    /** Of the demo: nobody has to sign in. */
    const open = (request: HttpServerRequest.HttpServerRequest) =>
      Effect.gen(function* () {
        const key = Option.flatMap(demo, ({ key }) => key)
        if (Option.isNone(key) || !isLoopback(request) || (yield* sessions.isOpen(request))) return Option.none()
        const holder = yield* keys.holder(`Bearer ${Redacted.value(key.value)}`)
        return Option.isNone(holder) ? Option.none() : yield* sessions.begin(request, holder.value)
      })

    const whole = yield* textOf(texts["/"])
    yield* router.get(
      "/",
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const path = pathOf(request.originalUrl)
        const last = path.slice(path.lastIndexOf("/") + 1)
        // Where the page is below a prefix, what it loads is below that, too.
        if (last !== "") return HttpServerResponse.empty({ status: 308, headers: { location: `./${last}/` } })
        const answer = yield* whole
        return Option.match(yield* open(request), { onNone: () => answer, onSome: ({ onto }) => onto(answer) })
      })
    )
    for (const path of ["/page/app.js", "/page/app.css", "/page/icon.svg"] as const) {
      yield* router.get(path, yield* textOf(texts[path]))
    }

    const answered = <R>(answer: Effect.Effect<HttpServerResponse.HttpServerResponse, Failure.Failure, R>) =>
      Effect.zipRight(Spans.annotate({ operation: "page" }), answer).pipe(
        Effect.annotateLogs({ operation: "page" }),
        Effect.catchAll((failure) => Effect.succeed(Edge.respond(failure))),
        Effect.map(HttpServerResponse.setHeaders(headers))
      )
    yield* router.post(sessionPath, answered(enter))
    yield* router.get(sessionPath, answered(look))
    yield* router.del(sessionPath, answered(leave))
  })
)

const notJson = new InvalidInput({ field: "content-type", expected: "must be application/json" })
