/**
 * The form in which an action fails: a plain object that survives serialisation, never a thrown error.
 */
import { Cause, Option } from "effect"
import { scrub } from "../CalHttp/Scrub.js"
import { type Failure, isTokenError, toFailure, type TokenError } from "../TokenError.js"

export type { Failure } from "../TokenError.js"

/**
 * Tells a failure from a result; also from Cal.com's JSON, which has no such shape.
 *
 * @since 0.1.0
 * @category predicates
 */
export const isFailure = (value: unknown): value is Failure =>
  typeof value === "object" &&
  value !== null &&
  "success" in value &&
  value.success === false &&
  "error" in value &&
  typeof value.error === "string" &&
  "code" in value &&
  typeof value.code === "string"

export const fromError = (error: TokenError): Failure =>
  error._tag === "CalRateLimited" ? { ...toFailure(error), status: 429 } : toFailure(error)

export const startFailed: Failure = {
  success: false,
  error: "The Cal.com token service could not start; the server's log says why. The next call tries again.",
  code: "StartFailed"
}

export const shuttingDown: Failure = {
  success: false,
  error: "The Cal.com token service is shutting down.",
  code: "ShuttingDown"
}

export const internalError: Failure = {
  success: false,
  error: "Internal error: this is a bug; the server's log has more.",
  code: "InternalError"
}

/** A caller who may not act for this user. Those of the HTTP service speak of API keys instead. */
export const forbidden: Failure = {
  success: false,
  error: "You may not use this user's Cal.com connection.",
  code: "Forbidden"
}

/** Nobody could tell whether the caller may act for this user. */
export const unauthorized: Failure = {
  success: false,
  error: "It could not be established who is asking: sign in and try again.",
  code: "Unauthorized"
}

/** What became of an operation that did not succeed; `otherwise` stands for anything but an error of this package. */
export const fromCause = (cause: Cause.Cause<unknown>, otherwise: Failure): Failure => {
  const error = Option.filter(Cause.failureOption(cause), isTokenError)
  if (Option.isSome(error)) return fromError(error.value)
  return Cause.isInterruptedOnly(cause) ? shuttingDown : otherwise
}

/** What somebody said on purpose by failing with it, without anything that may be a secret. */
export const words = (error: unknown): string => scrub(error instanceof Error ? error.message : String(error))

/**
 * The kind of a fault that nobody foresaw, and the place in the code where it arose. Its message may hold anything, so
 * only development sees that, with the stack.
 */
export const describe = (fault: unknown): string => {
  if (!(fault instanceof Error)) return `a thrown ${typeof fault}`
  const frames = (fault.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line))
  if (process.env["NODE_ENV"] === "development") return [`${fault.name}: ${words(fault)}`, ...frames].join("\n")
  return [fault.name, ...frames.slice(0, 1)].join(" ").replace(/\s+/g, " ")
}
