/** What the caller sees of an answer when a scripted mishap strikes it. */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { json, Refusal, throttled, toEnvelope } from "./Errors.js"
import { type Fault } from "./Faults.js"
import { type Kind } from "./Kind.js"
import { type Circumstances, oddAnswers } from "./OddAnswers.js"
import * as Wire from "./Wire.js"

type Response = HttpServerResponse.HttpServerResponse

export const strike = (
  fault: Fault,
  kind: Kind,
  request: HttpServerRequest.HttpServerRequest,
  response: Response,
  circumstances: Omit<Circumstances, "at">
): Response => {
  switch (fault._tag) {
    case "RefuseConnection":
      return Wire.refuse(request)
    case "DropBefore":
    case "DropAfter":
      return Wire.reset(request)
    case "Odd": {
      const sent = oddAnswers[fault.answer].send(response, { ...circumstances, at: fault.at })
      return sent.cutAt === undefined ? sent.response : Wire.truncate(request, sent.response, sent.cutAt)
    }
    case "Status": {
      const date = new Date(circumstances.now).toUTCString()
      return HttpServerResponse.setHeaders(errorOf(fault.status, kind, request, circumstances.now), {
        date,
        ...fault.headers
      })
    }
    case "Delay":
    case "RaceBothSucceed":
      return response
  }
}

const errorOf = (status: number, kind: Kind, request: HttpServerRequest.HttpServerRequest, now: number): Response => {
  if (status >= 502) return gateway(status)
  if (status === 500 && (kind === "oauth2Refresh" || kind === "oauth2Code" || kind === "oauth2Token")) {
    return json(500, { error: "server_error", error_description: "An unexpected error occurred" })
  }
  const error =
    status === 429
      ? throttled.error
      : status === 500
        ? internal
        : ({ _tag: "Platform", code: "HttpException", message: "Http Exception", details: "Http Exception" } as const)
  return toEnvelope(new Refusal({ status, error }), request.url, now)
}

const internal = {
  _tag: "Platform",
  code: "INTERNAL_SERVER_ERROR",
  message: "There was an error, please try again later."
} as const

/** A page of whatever stands before Cal.com. */
const gateway = (status: number) => {
  const title = `${status} ${gatewayNames[status] ?? "Error"}`
  return HttpServerResponse.text(
    `<!DOCTYPE html><html><head><title>${title}</title></head><body><h1>${title}</h1></body></html>`,
    { status, contentType: "text/html; charset=utf-8" }
  )
}

const gatewayNames: Readonly<Record<number, string>> = {
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout"
}
