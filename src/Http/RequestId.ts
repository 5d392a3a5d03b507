/**
 * What a request is called: in every line of the log about it, in its answer, and where it goes on to Cal.com. The
 * caller's own name for it, where that is one.
 */
import { randomUUID } from "node:crypto"
import { Headers, type HttpApp, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, type Scope } from "effect"

const header = "x-request-id"

/** Anything else could be a message to whoever reads logs. */
const wellFormed = /^[\w.:-]{1,128}$/

/** Of a request within {@link named}. */
export const of = ({ headers }: HttpServerRequest.HttpServerRequest): string | undefined => headers[header]

/** Around everything. The request itself has its id from here on, whether or not it came with one. */
export const named = <E, R>(app: HttpApp.Default<E, R | Scope.Scope>) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const given = request.headers[header]
    const id = given !== undefined && wellFormed.test(given) ? given : randomUUID()
    return Effect.annotateLogsScoped({ requestId: id }).pipe(
      Effect.zipRight(app),
      Effect.provideService(
        HttpServerRequest.HttpServerRequest,
        request.modify({ headers: Headers.set(request.headers, header, id) })
      ),
      Effect.map(HttpServerResponse.setHeader(header, id))
    )
  })
