/**
 * The form in which an action fails: a plain object that survives serialisation, never a thrown error.
 */
import { Cause, Data, Option } from "effect"
import { scrub } from "../CalHttp/Scrub.js"
import { facts, type Code } from "../ErrorFacts.js"
import { type Failure as AnyFailure, isTokenError, toFailure, type TokenError } from "../TokenError.js"

/**
 * What an action resolves to when it did not succeed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Failure extends AnyFailure {
  /**
   * What a route of yours should answer: where Cal.com refused what was asked, its own status (400, 404, 409, 410, 422); else
   * that of the HTTP service for the same failure. `status` is always Cal.com's.
   */
  readonly httpStatus: number
}

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

/** What Cal.com answers to a typo, a wrong id or a time that is taken: your caller can mend it, so it is no bad gateway. */
const aboutWhatWasAsked: ReadonlySet<number> = new Set([400, 404, 409, 410, 422])

const httpStatusOf = (error: TokenError): number => {
  if (error._tag === "CalRequestRejected" && aboutWhatWasAsked.has(error.status)) return error.status
  return facts[error._tag === "InvalidInput" && error.tooLarge === true ? "PayloadTooLarge" : error._tag].status
}

export const fromError = (error: TokenError): Failure => ({
  ...toFailure(error),
  ...(error._tag === "CalRateLimited" ? { status: 429 } : {}),
  httpStatus: httpStatusOf(error)
})

const own = (code: Code, error: string): Failure => ({ success: false, error, code, httpStatus: facts[code].status })

export const startFailed = own(
  "StartFailed",
  "The Cal.com token service could not start; the server's log says why. The next call tries again."
)

export const shuttingDown = own("ShuttingDown", "The Cal.com token service is shutting down.")

export const internalError = own("InternalError", "Internal error: this is a bug; the server's log has more.")

/** A caller who may not act for this user. Those of the HTTP service speak of API keys instead. */
export const forbidden = own("Forbidden", "You may not use this user's Cal.com connection.")

/** Nobody could tell whether the caller may act for this user. */
export const unauthorized = own("Unauthorized", "It could not be established who is asking: sign in and try again.")

/** A layer of the application's own has no service of this name. */
export class Lacking extends Data.TaggedError("Lacking")<{ readonly service: string }> {
  override get message() {
    return `The layer that Actions.make was given has no ${this.service}, which this needs: add it, as cal-tokens/node does.`
  }
}

/** What became of an operation that did not succeed; `otherwise` stands for anything but an error of this package. */
export const fromCause = (cause: Cause.Cause<unknown>, otherwise: Failure): Failure => {
  const error = Option.getOrUndefined(Cause.failureOption(cause))
  if (isTokenError(error)) return fromError(error)
  if (error instanceof Lacking) return own("StartFailed", error.message)
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
