/**
 * What is on the other end of a request: a socket of Node's, or a framework that made a Web `Request` of it (`Next`). The
 * platform hides the difference but for what is done here by hand.
 */
import type { HttpServerRequest } from "@effect/platform"
import { Effect } from "effect"

/** The request as a framework has it. It has no socket: what is wrong with its answer is told by failing that. */
export const webOf = ({ source }: HttpServerRequest.HttpServerRequest): Request | undefined =>
  source instanceof Request ? source : undefined

/** Breaks an answer off, so that nobody takes what came of it for the whole. */
export const breakOff: Effect.Effect<never> = Effect.dieMessage("Cal.com's answer was cut")
