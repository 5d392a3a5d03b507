/**
 * What a request is called: in every line of the log about it, in its answer, and where it goes on to Cal.com. The
 * caller's own name for it, where that is one.
 */
import { randomUUID } from "node:crypto"
import type { HttpServerRequest } from "@effect/platform"

export const header = "x-request-id"

/** Anything else could be a message to whoever reads logs. */
const wellFormed = /^[\w.:-]{1,128}$/

/** Of a request that was {@link given} one. */
export const of = ({ headers }: HttpServerRequest.HttpServerRequest): string | undefined => headers[header]

/** A request's id: it has it from here on, whether or not it came with one. */
export const given = ({ headers }: HttpServerRequest.HttpServerRequest): string => {
  const own = headers[header]
  const id = own !== undefined && wellFormed.test(own) ? own : randomUUID()
  // Into what Node read: another request with other headers would have to be handed to everything below.
  Object.assign(headers, { [header]: id })
  return id
}
