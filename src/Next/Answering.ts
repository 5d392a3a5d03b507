/** Handlers over the Web's `Request` and `Response`, run on services that are built for whoever calls first. */
import { HttpApp, HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { Effect, Either, Option, type Scope } from "effect"
import * as Failure from "../Actions/Failure.js"
import type { Runner } from "../Actions/Runner.js"
import * as ApiFailure from "../Api/Failure.js"
import * as Spans from "../Fibers/Spans.js"
import * as ClientAddress from "../Http/ClientAddress.js"
import * as Edge from "../Http/Edge.js"
import type { All } from "./Services.js"

/** What answers a request, or why it is not. */
export type App = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  ApiFailure.Failure,
  All | HttpServerRequest.HttpServerRequest | Scope.Scope
>

/** Which requests there are of an operation, and how it is called. */
export interface Described {
  readonly name: string
  /** Only these are answered; absent: all. */
  readonly methods?: ReadonlyArray<string>
  /** What its failures have besides. */
  readonly envelope?: object
}

const noStore = { "cache-control": "no-store" }

const notTaken = ({ envelope, name }: Described, methods: ReadonlyArray<string>): Response => {
  const failure = ApiFailure.service("MethodNotAllowed", `${name} takes ${methods.join(", ")}.`)
  const headers = { ...noStore, allow: methods.join(", ") }
  return Response.json({ ...envelope, ...ApiFailure.toWire(failure) }, { status: ApiFailure.status(failure), headers })
}

/** There are no services to answer with. */
const unavailable = ({ envelope }: Described, { httpStatus, ...failure }: Failure.Failure): Response =>
  Response.json({ ...envelope, ...failure }, { status: httpStatus, headers: noStore })

/**
 * Next calls each `GET` once while it builds an app with `cacheComponents`, to see whether the answer can be kept, and breaks
 * off by throwing from the first look at the request. Nothing may have been built or connected by then, nor may that be caught.
 */
const refusePrerender = ({ headers }: Request): void => void headers.has("host")

/** Tells the IP address that a request comes from, which the Web's `Request` has not. */
type Address = (request: Request) => string | null | undefined

/** Only what is an address gets any further: it may be from a header, and goes into the log. */
const addressed = (address: Address, request: Request) => {
  const said = Either.try({ try: () => address(request), catch: Failure.describe })
  const remoteAddress = Option.flatMap(Either.getRight(said), (text) => ClientAddress.read(text ?? ""))
  return <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
    Effect.updateService(
      Either.isRight(said) ? app : Effect.zipRight(Effect.logWarning(`address failed: ${said.left}`), app),
      HttpServerRequest.HttpServerRequest,
      (request) =>
        Option.match(remoteAddress, {
          onNone: () => request,
          onSome: (remoteAddress) => request.modify({ remoteAddress })
        })
    )
}

/**
 * What answers with `app`. That and the address are asked for in the caller's own asynchronous context. Rejects only where a
 * framework takes the request away.
 */
export const make =
  (runner: Runner<All>, address: Address = () => undefined) =>
  async (request: Request, described: Described, app: () => Promise<App>): Promise<Response> => {
    refusePrerender(request)
    const { envelope, methods, name } = described
    if (methods !== undefined && !methods.includes(request.method)) return notTaken(described, methods)
    const operation = { operation: name }
    const withAddress = addressed(address, request)
    const answered = (await app()).pipe(
      Effect.catchAll((failure) => Effect.succeed(Edge.respond(failure, envelope))),
      Effect.catchAllCause((cause) => Edge.recoverFault(cause, envelope)),
      withAddress,
      Effect.tap(() => Spans.annotate(operation)),
      Effect.annotateLogs(operation)
    )
    const response = await runner.run(
      { name },
      Effect.flatMap(Effect.runtime<All>(), (runtime) =>
        Effect.promise(() =>
          HttpApp.toWebHandlerRuntime(runtime)(Edge.around(Edge.routedAs(`/${name}`, answered)))(request)
        )
      )
    )
    return Failure.isFailure(response) ? unavailable(described, response) : response
  }
