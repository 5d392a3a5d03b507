/** What the caller sees of an answer when a scripted mishap strikes it. */
import { type HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { json, Refusal, throttled, toEnvelope } from "./Errors.js"
import { type Fault, type Kind } from "./Faults.js"
import * as Wire from "./Wire.js"

type Response = HttpServerResponse.HttpServerResponse

export const strike = (
  fault: Fault,
  kind: Kind,
  request: HttpServerRequest.HttpServerRequest,
  response: Response,
  now: number
): Response => {
  const date = new Date(now).toUTCString()
  switch (fault._tag) {
    case "RefuseConnection":
      return Wire.refuse(request)
    case "DropBefore":
    case "DropAfter":
      return Wire.reset(request)
    case "Truncated":
      return Wire.truncate(request, response)
    case "Garbage":
      return HttpServerResponse.text('{"status":"success","data":{"acc\u0000\u0007', {
        status: 200,
        headers: { date },
        contentType: "application/json; charset=utf-8"
      })
    case "Html":
      return gateway(200, "Just a moment...", date)
    case "Status":
      return HttpServerResponse.setHeaders(errorOf(fault.status, kind, request, now, date), {
        date,
        ...fault.headers
      })
    case "Delay":
    case "RaceBothSucceed":
      return response
  }
}

const errorOf = (
  status: number,
  kind: Kind,
  request: HttpServerRequest.HttpServerRequest,
  now: number,
  date: string
): Response => {
  if (status >= 502) return gateway(status, `${status} ${gatewayNames[status] ?? "Error"}`, date)
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
const gateway = (status: number, title: string, date: string) =>
  HttpServerResponse.text(
    `<!DOCTYPE html><html><head><title>${title}</title></head><body><h1>${title}</h1></body></html>`,
    { status, headers: { date }, contentType: "text/html; charset=utf-8" }
  )

const gatewayNames: Readonly<Record<number, string>> = {
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout"
}
