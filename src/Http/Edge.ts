/**
 * Where a failure becomes an answer: logged once, with operation and user, and sent as the JSON that `Api/Failure`
 * describes. Nothing below knows HTTP, and nothing that is sent or logged here holds a request, a header or a value.
 */
import {
  type HttpApiEndpoint,
  HttpApiError,
  type HttpApiGroup,
  HttpApp,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
  HttpTraceContext
} from "@effect/platform"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { Cause, Context, Effect, LogLevel, Option, Predicate, type Schema, type Scope } from "effect"
import { Api } from "../Api.js"
import { Caller } from "../Api/Access.js"
import * as Atoms from "../Api/Atoms.js"
import * as Failure from "../Api/Failure.js"
import type { Forbidden, Unauthorized } from "../ApiKeys.js"
import { levelOf } from "../ErrorFacts.js"
import * as Metrics from "../Metrics.js"
import type { UserUlid } from "../Token.js"
import * as TokenErrors from "../TokenError.js"
import { InvalidInput, type TokenError } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import * as Body from "./Body.js"
import { Lifecycle } from "./Lifecycle.js"
import { CallerLimits } from "./CallerLimits.js"
import * as Framing from "./Framing.js"
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

/** Names the operation, and who asked for it, in every log line of this request and in its span. */
export const operation = (name: string): Effect.Effect<void, never, Caller | Scope.Scope> =>
  Effect.flatMap(Caller, (caller) => {
    const names = { operation: name, apiKey: caller.name }
    return Effect.zipRight(Effect.annotateCurrentSpan(names), Effect.annotateLogsScoped(names))
  })

/** The user of this request, from an untrusted value; named in every log line from here on. */
export const user = (value: unknown): Effect.Effect<UserUlid, InvalidInput, Scope.Scope> =>
  Effect.tap(TokenInput.userUlid(value), (userUlid) => Effect.annotateLogsScoped({ userUlid }))

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
    return yield* Effect.annotateLogs(decline(toFailure(error)), stack)
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

/** Whom the path or the body names. */
type User<Name extends string> = "userUlid" extends keyof Path<Name> | keyof Payload<Name> ? UserUlid : undefined

const endpoints = new Map<string, { readonly payloadSchema: Option.Option<unknown> }>(
  Object.values(Api.groups).flatMap(({ endpoints }) => Object.entries(endpoints))
)

const userIn = (given: unknown) =>
  Predicate.hasProperty(given, "userUlid") ? Effect.asSome(user(given.userUlid)) : Effect.succeedNone

/**
 * The handler of an endpoint that the API value describes: it names the operation and the user in the log, reads the body by
 * the value's own schema, and turns errors into answers. `broadest` as for `Body.json`.
 */
export const endpoint = <
  const Name extends HttpApiEndpoint.HttpApiEndpoint.Name<Endpoints>,
  A extends HttpApiEndpoint.HttpApiEndpoint.Success<Named<Name>>,
  E extends Refused,
  R
>(
  name: Name,
  answer: (input: Input<Name>, user: User<Name>) => Effect.Effect<A, E, R>,
  { broadest = [] }: { readonly broadest?: ReadonlyArray<keyof Payload<Name> & string> } = {}
) => {
  const schema = Option.getOrUndefined(endpoints.get(name)?.payloadSchema ?? Option.none()) as
    Schema.Schema<Payload<Name>> | undefined
  const body = schema === undefined ? undefined : Body.json(schema, broadest)
  return (request: {
    readonly request: HttpServerRequest.HttpServerRequest
    readonly path?: unknown
    readonly urlParams?: unknown
  }) =>
    Effect.gen(function* () {
      yield* operation(name)
      const inPath = yield* userIn(request.path)
      const input = body === undefined ? request.urlParams : yield* body
      const who = Option.getOrUndefined(Option.isSome(inPath) ? inPath : yield* userIn(input))
      return yield* answer(input as Input<Name>, who as User<Name>)
    }).pipe(refuseAll)
}

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
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const lifecycle = yield* Lifecycle
    const limits = yield* CallerLimits
    const envelope = pathOf(request) === Atoms.path ? Atoms.envelope : {}
    const problem = Framing.problemOf(NodeHttpServerRequest.toIncomingMessage(request))
    if (problem !== undefined) return yield* noRequest(problem, envelope)
    const answer = routes.isExact(request.url)
      ? Effect.catchAllCause(app, (cause) => recover(cause, request, routes, envelope))
      : Effect.map(noEndpoint, (failure) => respond(failure, envelope))
    if (request.url.startsWith("/health/")) return yield* answer
    if (yield* lifecycle.isStopping) {
      return respond(Failure.service("ShuttingDown", "This process is stopping: ask again."), envelope)
    }
    return yield* Effect.matchEffect(limits.address, {
      onFailure: (failure) => Effect.succeed(respond(failure, envelope)),
      onSuccess: () => answer
    })
  }).pipe(
    Effect.map((response) =>
      HttpServerResponse.setHeaders(response, {
        ...defaultHeaders,
        ...(isPage(response) ? pageHeaders : {}),
        ...response.headers
      })
    )
  )

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

/**
 * A request's span, below the caller's if its headers name one. It knows the method and the status; the router adds the
 * route's template as `http.route`. Unlike the platform's own span it never holds what the caller wrote: a token in a
 * query or a header would be told to whoever collects spans.
 */
export const traced = <E, R>(app: HttpApp.Default<E, R>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers, method }) =>
    app.pipe(
      Effect.tap((response) => Effect.annotateCurrentSpan("http.response.status_code", response.status)),
      Metrics.request(method),
      Effect.withSpan(`http.server ${method}`, {
        parent: Option.getOrUndefined(HttpTraceContext.fromHeaders(headers)),
        kind: "server",
        captureStackTrace: false,
        attributes: { "http.request.method": method }
      })
    )
  )

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
  if (Cause.isInterruptedOnly(cause)) return Effect.failCause(cause as Cause.Cause<never>)
  return Effect.as(
    logFault(cause),
    respond(Failure.service("InternalError", "Something went wrong here. It is logged."), envelope)
  )
}

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
