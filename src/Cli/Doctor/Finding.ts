/** What a look at one thing shows. */
import { Cause, Duration, Effect, Schema } from "effect"
import { number } from "../Numbers.js"

export const Level = Schema.Literal("ok", "warning", "wrong")
export type Level = typeof Level.Type

export const Finding = Schema.Struct({
  check: Schema.String,
  level: Level,
  /** One sentence, or a few. No secret is in it, and of users their ULIDs alone. */
  message: Schema.String,
  /** What to do. */
  advice: Schema.optional(Schema.String)
})
export type Finding = typeof Finding.Type

export const ok = (check: string, message: string): Finding => ({ check, level: "ok", message })
export const warning = (check: string, message: string, advice: string): Finding => ({
  ...{ check, level: "warning", message, advice }
})
export const wrong = (check: string, message: string, advice: string): Finding => ({
  ...{ check, level: "wrong", message, advice }
})

/** Nothing that is looked at takes longer. */
const patience = Duration.seconds(10)

/** Looks, whatever comes of it: no check holds another one up. */
export const looking = <R>(
  check: string,
  look: Effect.Effect<Finding | ReadonlyArray<Finding>, string, R>
): Effect.Effect<ReadonlyArray<Finding>, never, R> => {
  const failed = (why: string) => [wrong(check, `This could not be looked at: ${why}.`, "Mend that, and look again.")]
  return look.pipe(
    Effect.map((found) => ("check" in found ? [found] : found)),
    Effect.timeoutTo({
      duration: patience,
      onSuccess: (found) => found,
      onTimeout: () => failed(`no answer within ${Duration.format(patience)}`)
    }),
    Effect.catchAllCause((cause) =>
      // A defect may hold anything.
      Effect.succeed(failed(Cause.isFailure(cause) && cause._tag === "Fail" ? cause.error : "something unexpected"))
    )
  )
}

/** Some of them, by their ULIDs. */
export const users = (all: ReadonlyArray<string>): string =>
  all.length <= 3 ? all.join(", ") : `${all.slice(0, 3).join(", ")} and ${all.length - 3} more`

export const count = (n: number, one: string, several = `${one}s`) => `${number(n)} ${n === 1 ? one : several}`
