/** Handlers over the Web's `Request` and `Response`, run on services that are built for whoever calls first. */
import { HttpApp, type HttpServerRequest, type HttpServerResponse } from "@effect/platform"
import { Effect, type Scope } from "effect"
import * as Failure from "../Actions/Failure.js"
import type { Runner } from "../Actions/Runner.js"
import * as ApiFailure from "../Api/Failure.js"
import * as Spans from "../Fibers/Spans.js"
import * as Edge from "../Http/Edge.js"
import type { All } from "./Services.js"

/** What answers a request, or why it is not. */
export type App = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  ApiFailure.Failure,
  All | HttpServerRequest.HttpServerRequest | Scope.Scope
>

const respond = (failure: ApiFailure.Failure, method: string, methods: ReadonlyArray<string>): Response => {
  const headers = { "cache-control": "no-store", ...(methods.includes(method) ? {} : { allow: methods.join(", ") }) }
  return Response.json(ApiFailure.toWire(failure), { status: ApiFailure.status(failure), headers })
}

/** `name` is that of the operation; only `methods` are answered, where they are named. */
export const answer = async (
  runner: Runner<All>,
  request: Request,
  { methods, name }: { readonly name: string; readonly methods?: ReadonlyArray<string> | undefined },
  app: () => Promise<App>
): Promise<Response> => {
  const { method } = request
  if (methods !== undefined && !methods.includes(method)) {
    const failure = ApiFailure.service("MethodNotAllowed", `${name} takes ${methods.join(", ")}.`)
    return respond(failure, method, methods)
  }
  const operation = { operation: name }
  const answered = (await app()).pipe(
    Effect.catchAll((failure) => Effect.succeed(Edge.respond(failure))),
    Effect.catchAllCause((cause) => Edge.recoverFault(cause)),
    Effect.tap(() => Spans.annotate(operation)),
    Effect.annotateLogs(operation)
  )
  const response = await runner.run(
    { name },
    Effect.flatMap(Effect.runtime<All>(), (runtime) =>
      Effect.promise(() => HttpApp.toWebHandlerRuntime(runtime)(Edge.around(Edge.routedAs(name, answered)))(request))
    )
  )
  return Failure.isFailure(response)
    ? respond({ _tag: "ShuttingDown", ...response, code: "ShuttingDown" }, method, [method])
    : response
}
