/**
 * Where a failure becomes an answer: logged once, with operation and user, and sent as the JSON that `Api/Failure`
 * describes. Nothing below knows HTTP, and nothing that is sent or logged here holds a request, a header or a value.
 */
import { Buffer } from "node:buffer"
import type { IncomingMessage } from "node:http"
import {
  type HttpApiEndpoint,
  HttpApiError,
  type HttpApiGroup,
  HttpApp,
  HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
  HttpTraceContext
} from "@effect/platform"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Cause, Context, Effect, LogLevel, Option, Predicate, Schema, type Tracer } from "effect"
import { Api } from "../Api.js"
import { Caller } from "../Api/Access.js"
import * as Atoms from "../Api/Atoms.js"
import * as Failure from "../Api/Failure.js"
import { type Forbidden, refusesUser, type Unauthorized } from "../ApiKeys.js"
import * as Tried from "../CalHttp/Tried.js"
import { levelOf } from "../ErrorFacts.js"
import * as Spans from "../Fibers/Spans.js"
import * as Metrics from "../Metrics.js"
import type { UserUlid } from "../Token.js"
import * as TokenErrors from "../TokenError.js"
import { InvalidInput, type TokenError } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import { annotate } from "./Annotations.js"
import { Audit } from "./Audit.js"
import * as Body from "./Body.js"
import { Lifecycle } from "./Lifecycle.js"
import { CallerLimits } from "./CallerLimits.js"
import * as Framing from "./Framing.js"
import * as RequestId from "./RequestId.js"
import { PublicUrl } from "./Root.js"
import type { RouteTable } from "./RouteTable.js"

/**
 * Whether logs may hold stack traces, whose first lines are messages of anybody's making.
 *
 * @since 0.1.0
 * @category references
 */
export class Development extends Context.Reference<Development>()("cal-tokens/Http/Development", {
  defaultValue: () => false
}) {}

/**
 * Names the operation, and who asked for it, in every log line of this request and in its span. It concerns all users: keys
 * for some are refused.
 */
export const operation = (name: string) =>
  Effect.flatMap(Caller, (caller) =>
    Effect.zipRight(operationOf(name, caller), refuseAll(permit(caller, refusesUser(caller, undefined))))
  )

/** The same where a user is named: then {@link permit} has to be asked. */
export const operationFor = (name: string) => Effect.tap(Caller, (caller) => operationOf(name, caller))

/** Fails with the reason why a key is not for this, if there is one; the audit trail is told of it. */
export const permit = (
  { name }: Context.Tag.Service<Caller>,
  refusal: Option.Option<Forbidden>
): Effect.Effect<void, Forbidden, Audit | HttpServerRequest.HttpServerRequest> =>
  Option.isNone(refusal)
    ? Effect.void
    : Effect.gen(function* () {
        const route = routeOf(yield* HttpServerRequest.HttpServerRequest) ?? "unknown"
        yield* (yield* Audit).refused("key.forbidden", { key: name, route })
        return yield* refusal.value
      })

const operationOf = (name: string, caller: Context.Tag.Service<Caller>): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => {
    const names = { operation: name, apiKey: caller.name }
    Spans.annotateOf(fiber, names)
    return annotate(names)
  })

/** The user of this request, from an untrusted value; named in every log line from here on. */
export const user = (value: unknown): Effect.Effect<UserUlid, InvalidInput> =>
  Effect.tap(TokenInput.userUlid(value), (userUlid) => annotate({ userUlid }))

/** What this service refuses with an error of its own: those of the product, and those of API keys. */
type Refused = TokenError | Unauthorized | Forbidden

/** The failure that stands for an error of this package. */
const toFailure = <E extends Refused>(error: E) =>
  ({
    _tag: error._tag === "InvalidInput" && error.tooLarge === true ? "PayloadTooLarge" : error._tag,
    ...TokenErrors.toFailure(error)
  }) as Extract<Failure.Failure, { readonly code: E["_tag"] }>

/** Logs an error, sees to the headers that belong to it, and fails with its form on the wire. */
export const refuse = <E extends Refused>(error: E) =>
  Effect.gen(function* () {
    const development = yield* Development
    const stack = development && error.stack !== undefined ? { stack: error.stack } : {}
    return yield* Effect.annotateLogs(decline(toFailure(error)), { ...stack, ...Tried.fieldsOf(error) })
  })

/** The same for a failure of the service itself. Beyond a limit nothing is logged: that the limit was reached, was. */
export const decline = <F extends Failure.Failure>(failure: F) =>
  Effect.gen(function* () {
    if (failure._tag !== "RateLimited") {
      const fields = { code: failure.code, status: Failure.status(failure) }
      const level = LogLevel.fromLiteral(levelOf(failure._tag))
      yield* Effect.annotateLogs(Effect.logWithLevel(level, failure.error), fields)
    }
    yield* HttpApp.appendPreResponseHandler((_, response) =>
      Effect.succeed(HttpServerResponse.setHeaders(response, headersOf(failure)))
    )
    return yield* Effect.fail(failure)
  })

/**
 * For parameters that the platform refused: which one, and the words that its schema has for that. The platform's own
 * words would repeat the value.
 */
export const decoded = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.catchIf(
    app,
    (error) => error instanceof HttpApiError.HttpApiDecodeError,
    (error) => {
      const [issue] = error.issues
      return Effect.catchAll(
        Effect.annotateLogs(
          refuse(
            new InvalidInput({
              field: issue?.path.map(String).join(".") ?? "parameters",
              expected: issue?.message.startsWith("must be ") === true ? issue.message : "is not as documented"
            })
          ),
          { operation: "decode" }
        ),
        (failure) => Effect.succeed(respond(failure))
      )
    }
  )

/** {@link refuse} for every error of an effect. */
export const refuseAll = <A, E extends Refused, R>(effect: Effect.Effect<A, E, R>) => Effect.catchAll(effect, refuse)

type Endpoints = HttpApiGroup.HttpApiGroup.Endpoints<(typeof Api)["groups"][string]>
type Named<Name extends string> = HttpApiEndpoint.HttpApiEndpoint.WithName<Endpoints, Name>
type Path<Name extends string> = HttpApiEndpoint.HttpApiEndpoint.PathParsed<Named<Name>>
type Payload<Name extends string> = HttpApiEndpoint.HttpApiEndpoint.Payload<Named<Name>>

/** The body, of an endpoint that takes one; else the query. */
type Input<Name extends string> = [Payload<Name>] extends [never]
  ? HttpApiEndpoint.HttpApiEndpoint.UrlParams<Named<Name>>
  : Payload<Name>

type Success<Name extends string> = HttpApiEndpoint.HttpApiEndpoint.Success<Named<Name>>

/** Whom the path or the body names. */
type User<Name extends string> = "userUlid" extends keyof Path<Name> | keyof Payload<Name> ? UserUlid : undefined

interface Described {
  readonly method: string
  readonly path: string
  readonly payloadSchema: Option.Option<unknown>
  readonly successSchema: Schema.Schema.Any
}

const endpoints = new Map<string, Described>(
  Object.values(Api.groups).flatMap(({ endpoints }) => Object.entries(endpoints))
)

const userIn = (given: unknown) =>
  Predicate.hasProperty(given, "userUlid") ? Effect.asSome(user(given.userUlid)) : Effect.succeedNone

/** What the platform has read of a request already. */
interface Asked {
  readonly request?: HttpServerRequest.HttpServerRequest
  readonly path?: unknown
  readonly urlParams?: unknown
}

/**
 * How an endpoint that the API value describes is answered: it names the operation and the user in the log, reads the body by
 * the value's own schema, and turns errors into answers. `broadest` as for `Body.json`.
 */
const answering = <
  const Name extends HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>,
  A extends Success<Name> | HttpServerResponse.HttpServerResponse,
  E extends Refused,
  R
>(
  name: Name,
  answer: (input: Input<Name>, user: User<Name>) => Effect.Effect<A, E, R>,
  broadest: ReadonlyArray<keyof Payload<Name> & string> = []
) => {
  const schema = Option.getOrUndefined(endpoints.get(name)?.payloadSchema ?? Option.none()) as
    Schema.Schema<Payload<Name>> | undefined
  const body = schema === undefined ? undefined : Body.json(schema, broadest)
  return (caller: Context.Tag.Service<Caller>, { path, urlParams }: Asked = {}) =>
    Effect.gen(function* () {
      yield* operationOf(name, caller)
      const inPath = yield* userIn(path)
      const input = body === undefined ? urlParams : yield* body
      const who = Option.getOrUndefined(Option.isSome(inPath) ? inPath : yield* userIn(input))
      yield* permit(caller, refusesUser(caller, who))
      return yield* answer(input as Input<Name>, who as User<Name>)
    }).pipe(refuseAll)
}

/** The handler of such an endpoint. */
export const endpoint = <
  const Name extends HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>,
  A extends Success<Name> | HttpServerResponse.HttpServerResponse,
  E extends Refused,
  R
>(
  name: Name,
  answer: (input: Input<Name>, user: User<Name>) => Effect.Effect<A, E, R>,
  { broadest }: { readonly broadest?: ReadonlyArray<keyof Payload<Name> & string> } = {}
) => {
  const ask = answering(name, answer, broadest)
  return (asked: Asked) => Effect.flatMap(Caller, (caller) => ask(caller, asked))
}

/**
 * The same for a list in the body, whose items are looked at one by one where that is answered: one that is wrong keeps no
 * other back.
 */
export const items = <
  const Name extends HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>,
  A extends Success<Name>,
  E extends Refused,
  R
>(
  name: Name,
  field: keyof Payload<Name> & string,
  answer: (items: ReadonlyArray<unknown>) => Effect.Effect<A, E, R>
) => {
  const body = Body.items(field)
  return () => Effect.zipRight(operation(name), refuseAll(Effect.flatMap(body, answer)))
}

/**
 * The endpoint in front of the router. That gives each request a context of its own, and the platform's handlers two more: most
 * of what an answer costs that is at hand. What is not written exactly as the endpoint's path takes the usual way.
 */
export const shortcut = <
  const Name extends HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>,
  E extends Refused,
  R,
  AE extends Failure.Failure,
  AR
>(
  name: Name,
  authorized: Effect.Effect<Context.Tag.Service<Caller>, AE, AR>,
  answer: (input: Input<Name>, user: User<Name>) => Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
) => {
  const { method, path } = endpoints.get(name) ?? {}
  const ask = answering(name, answer)
  const direct = Effect.flatMap(authorized, (caller) => ask(caller)).pipe(
    Effect.catchAll((failure) => Effect.succeed(respond(failure))),
    // As the router has it: who hangs up waits for nothing.
    Effect.interruptible
  )
  return <E2, R2>(app: HttpApp.Default<E2, R2>) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      request.method === method && request.url === path
        ? routedAs<
            HttpServerResponse.HttpServerResponse,
            E2,
            R | R2 | AR | Audit | HttpServerRequest.HttpServerRequest
          >(path, direct)
        : app
    )
}

type Name = HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>

/**
 * Answers of a JSON endpoint, each made once for its source: what is the same object from one request to the next, such as
 * the token of a row that is remembered, is encoded once. `form`: what is made of the text.
 */
export const answersAs = <const Of extends Name, Source extends object, A>(
  name: Of,
  describe: (source: Source) => Success<Of>,
  form: (text: string) => A
): ((source: Source) => A) => {
  const encode = Schema.encodeUnknownSync(endpoints.get(name)?.successSchema as Schema.Schema<Success<Of>>)
  const made = new WeakMap<Source, A>()
  return (source) => {
    const known = made.get(source)
    if (known !== undefined) return known
    const answer = form(JSON.stringify(encode(describe(source))))
    made.set(source, answer)
    return answer
  }
}

/** As text, Node sends it with the head; bytes would be a write of their own. */
const json = (text: string) =>
  HttpServerResponse.raw(text, { contentType: "application/json", contentLength: Buffer.byteLength(text) })

export const answers = <const Of extends Name, Source extends object>(
  name: Of,
  describe: (source: Source) => Success<Of>
): ((source: Source) => HttpServerResponse.HttpServerResponse) => answersAs(name, describe, json)

export const noEndpoint = Effect.map(PublicUrl, (url) =>
  Failure.service("NotFound", `There is no such endpoint: ${url}/docs shows all.`)
)

/** A failure as a whole response; `envelope` is what an endpoint's failures have besides. */
export const respond = (failure: Failure.Failure, envelope: object = {}): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.unsafeJson(
    { ...envelope, ...Failure.toWire(failure) },
    { status: Failure.status(failure), headers: headersOf(failure) }
  )

const headersOf = (failure: Failure.Failure): Record<string, string> => ({
  ...(failure.retryAfter === undefined ? {} : { "retry-after": String(failure.retryAfter) }),
  ...(failure._tag === "Unauthorized" ? { "www-authenticate": "Bearer" } : {}),
  ...(failure._tag === "PayloadTooLarge" || failure._tag === "ShuttingDown" ? { connection: "close" } : {})
})

/** A request's path as it was written, without its query. */
export const pathOf = (request: HttpServerRequest.HttpServerRequest): string => request.url.split("?", 1)[0] ?? ""

/**
 * The outermost layer of every request: refuses work during a shutdown or beyond an address's limit, and what is not
 * written as a route is; turns whatever went wrong into JSON. Health checks are always answered.
 */
export const guard = <R>(app: HttpApp.Default<never, R>, routes: RouteTable) =>
  Effect.withFiberRuntime<
    HttpServerResponse.HttpServerResponse,
    never,
    R | HttpServerRequest.HttpServerRequest | Lifecycle | CallerLimits
  >((fiber) => {
    const request = Context.unsafeGet(fiber.currentContext, HttpServerRequest.HttpServerRequest)
    const envelope = pathOf(request) === Atoms.path ? Atoms.envelope : {}
    const problem = Framing.problemOf(NodeHttpServerRequest.toIncomingMessage(request))
    if (problem !== undefined) return noRequest(problem, envelope)
    const answer = routes.isExact(request.url)
      ? Effect.catchAllCause(app, (cause) => recover(cause, request, routes, envelope))
      : Effect.map(noEndpoint, (failure) => respond(failure, envelope))
    if (request.url.startsWith("/health/")) return answer
    return Effect.flatMap(Context.unsafeGet(fiber.currentContext, Lifecycle).isStopping, (isStopping) =>
      isStopping
        ? Effect.succeed(respond(Failure.service("ShuttingDown", "This process is stopping: ask again."), envelope))
        : Effect.matchEffect(Context.unsafeGet(fiber.currentContext, CallerLimits).address, {
            onFailure: (failure) => Effect.succeed(respond(failure, envelope)),
            onSuccess: () => answer
          })
    )
  })

/** Where one such request ends and the next one begins, nobody can be sure of. */
const noRequest = (problem: string, envelope: object) =>
  refuse(new InvalidInput({ field: "request", expected: problem })).pipe(
    Effect.annotateLogs({ operation: "guard" }),
    Effect.catchAll((failure) =>
      Effect.succeed(HttpServerResponse.setHeader(respond(failure, envelope), "connection", "close"))
    )
  )

const isPage = ({ body }: HttpServerResponse.HttpServerResponse) =>
  body._tag !== "Empty" && body.contentType?.startsWith("text/html") === true

/** The templates of the routes that took requests. */
const routes = new WeakMap<IncomingMessage, string>()

/** The template of the route that took a request, if one did. */
export const routeOf = (request: HttpServerRequest.HttpServerRequest): string | undefined =>
  routes.get(NodeHttpServerRequest.toIncomingMessage(request))

/** Tells which route a request is in, to whatever counts requests. */
export const routed = <A, E, R>(handler: Effect.Effect<A, E, R>) =>
  Effect.flatMap(HttpRouter.RouteContext, ({ route }) => routedAs(route.path, handler))

/** The same for what no router of ours took. */
export const routedAs = <A, E, R>(path: string, handler: Effect.Effect<A, E, R>) =>
  Effect.withFiberRuntime<A, E, R | HttpServerRequest.HttpServerRequest>((fiber) => {
    const request = Context.unsafeGet(fiber.currentContext, HttpServerRequest.HttpServerRequest)
    routes.set(NodeHttpServerRequest.toIncomingMessage(request), path)
    Spans.annotateOf(fiber, { "http.route": path })
    return handler
  })

/**
 * Around everything that is answered: a request gets its id, is counted, and has a span where somebody looks at spans, below
 * the caller's if its headers name one. That knows the method, the status and the route's template (`http.route`). Unlike
 * the platform's own span it never holds what the caller wrote: a token in a query or a header would be told to whoever
 * collects spans.
 */
export const around = <E, R>(
  app: HttpApp.Default<E, R>,
  routes?: RouteTable
): HttpApp.Default<E, Exclude<R, Tracer.ParentSpan>> =>
  Effect.withFiberRuntime((fiber) => {
    const request = Context.unsafeGet(fiber.currentContext, HttpServerRequest.HttpServerRequest)
    const id = RequestId.given(request)
    const answered = Effect.map(counted(request, app), (response) => withHeaders(response, id))
    return Effect.zipRight(annotate({ requestId: id }), inSpan(request, answered, routes))
  })

const counted = <E, R>(request: HttpServerRequest.HttpServerRequest, app: HttpApp.Default<E, R>) =>
  Metrics.request(request.method, () => routeOf(request))(app)

/** Named by the template of the route that the request is for, if there is one. */
const inSpan = <E, R>(
  { headers, method, url }: HttpServerRequest.HttpServerRequest,
  app: HttpApp.Default<E, R>,
  routes?: RouteTable
) =>
  Spans.within(
    Effect.tap(app, ({ status }) => Spans.annotate({ "http.response.status_code": status })),
    () => {
      const route = routes?.template(method, url)
      return route === undefined ? method : `${method} ${route}`
    },
    () => ({
      parent: Option.getOrUndefined(HttpTraceContext.fromHeaders(headers)),
      kind: "server",
      captureStackTrace: false,
      attributes: { "http.request.method": method }
    })
  )

const withHeaders = (response: HttpServerResponse.HttpServerResponse, id: string) =>
  HttpServerResponse.setHeaders(response, {
    ...defaultHeaders,
    ...(isPage(response) ? pageHeaders : {}),
    ...response.headers,
    [RequestId.header]: id
  })

const defaultHeaders = { "cache-control": "no-store", "x-content-type-options": "nosniff" }

/** What a page may do that says nothing else: show text. */
const pageHeaders = {
  "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-frame-options": "DENY"
}

const recover = (
  cause: Cause.Cause<unknown>,
  request: HttpServerRequest.HttpServerRequest,
  routes: RouteTable,
  envelope: object
) => {
  const error = Cause.squash(cause)
  if (HttpServerError.isServerError(error) && error._tag === "RouteNotFound") {
    return notFound(request, routes, envelope)
  }
  return recoverFault(cause, envelope)
}

/** The answer where something went wrong that is no failure. */
export const recoverFault = (
  cause: Cause.Cause<unknown>,
  envelope: object = {}
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Cause.isInterruptedOnly(cause)
    ? Effect.failCause(cause as Cause.Cause<never>)
    : Effect.as(
        logFault(cause),
        respond(Failure.service("InternalError", "Something went wrong here. It is logged."), envelope)
      )

const notFound = (request: HttpServerRequest.HttpServerRequest, routes: RouteTable, envelope: object) => {
  const allowed = routes.methods(request.url)
  // A method that the path takes: then a parameter is longer than the router takes.
  return allowed.length === 0 || allowed.includes(request.method)
    ? Effect.map(noEndpoint, (failure) => respond(failure, envelope))
    : Effect.succeed(
        HttpServerResponse.setHeader(
          respond(Failure.service("MethodNotAllowed", `This endpoint takes ${allowed.join(", ")}.`), envelope),
          "allow",
          allowed.join(", ")
        )
      )
}

/** A fault nobody foresaw. Its message may hold anything, so only development sees it. */
const logFault = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  Effect.gen(function* () {
    if (yield* Development) return yield* Effect.logError("Unexpected fault", cause)
    yield* Effect.annotateLogs(Effect.logError("Unexpected fault"), describeFault(Cause.squash(cause)))
  })

/** The kind of a fault and the place in the code where it arose. */
export const describeFault = (fault: unknown): { readonly fault: string; readonly at?: string } => {
  if (!(fault instanceof Error)) return { fault: typeof fault }
  const frame = Option.fromNullable(fault.stack?.split("\n").find((line) => /^\s+at /.test(line)))
  return { fault: fault.name, ...(Option.isSome(frame) ? { at: frame.value.trim().slice(3) } : {}) }
}
