/** The numbers of the refresh rules as a plain object, from whoever writes no Effect: looked at before anything is built. */
import { Duration, Effect, Either, Layer, Option, Predicate } from "effect"
import * as TokenConfig from "../TokenConfig.js"

/** What somebody gives for a number of the rules: of time, milliseconds or a text such as `"30 seconds"`. */
type Given<A> = (A extends Duration.Duration ? Duration.DurationInput : A) | undefined

/**
 * Numbers of the refresh rules to change, by their names in `TokenConfig`. Durations are milliseconds, or texts such as
 * `"30 seconds"`. All processes over one database should have the same.
 *
 * @since 0.1.0
 * @category models
 */
export type Config = {
  readonly [K in Exclude<keyof TokenConfig.Options, "windows">]?: Given<TokenConfig.Options[K]>
} & {
  /** How long before its expiry a token counts as expiring soon, and as due; at most these shares of its lifetime. */
  readonly windows?:
    { readonly [K in keyof TokenConfig.Options["windows"]]?: Given<TokenConfig.Options["windows"][K]> } | undefined
}

/** Numbers as they count. */
export interface Numbers extends Omit<Partial<TokenConfig.Options>, "windows"> {
  readonly windows: Partial<TokenConfig.Options["windows"]>
}

type Judged<A> = Either.Either<A, string>

const time = (name: string, value: unknown): Judged<Duration.Duration> =>
  Duration.decodeUnknown(value).pipe(
    Option.filter((duration) => Duration.isFinite(duration) && Duration.greaterThan(duration, Duration.zero)),
    Either.fromOption(() => `${name} must be a duration, such as "30 seconds" or 30000 (milliseconds)`)
  )

const count = (name: string, value: unknown): Judged<number> =>
  Number.isSafeInteger(value) && Number(value) >= 1
    ? Either.right(Number(value))
    : Either.left(`${name} must be a whole number, 1 or more`)

const share = (name: string, value: unknown): Judged<number> =>
  typeof value === "number" && value >= 0 && value <= 1
    ? Either.right(value)
    : Either.left(`${name} must be a number from 0 to 1`)

/** One is judged by the kind of its default: shares are the only ones that are below 1. */
const judge = (name: string, value: unknown, standard: unknown): Judged<unknown> => {
  if (Duration.isDuration(standard)) return time(name, value)
  return Number(standard) < 1 ? share(name, value) : count(name, value)
}

const judgeAll = (given: unknown, standards: object, name: string): Judged<Record<string, unknown>> =>
  Either.gen(function* () {
    if (!Predicate.isRecord(given)) return yield* Either.left(`${name} must be an object`)
    const known = new Map(Object.entries(standards))
    const numbers: Record<string, unknown> = {}
    for (const [key, value] of Object.entries(given)) {
      if (Predicate.isNullable(value)) continue
      const standard: unknown = known.get(key)
      if (standard === undefined) {
        return yield* Either.left(
          `${name} has no ${/^\w{1,40}$/.test(key) ? key : "such field"}: src/TokenConfig.ts lists them`
        )
      }
      const field = `${name}.${key}`
      numbers[key] = yield* key === "windows"
        ? judgeAll(value, TokenConfig.defaults.windows, field)
        : judge(field, value, standard)
    }
    return numbers
  })

/** What is meant by a `config`, or the one line that says what is wrong with it. */
export const decode = (given: unknown): Either.Either<Numbers, string> =>
  Either.map(judgeAll(given ?? {}, TokenConfig.defaults, "config"), (numbers) => ({
    ...numbers,
    windows: numbers["windows"] ?? {}
  }))

/** Numbers that make no sense together. */
const problemOf = ({ attemptTimeout, backoffMax, backoffMin, lease, windows }: TokenConfig.Options) =>
  Duration.greaterThan(windows.due, windows.soon)
    ? "config.windows.due must not be longer than config.windows.soon"
    : Duration.greaterThanOrEqualTo(attemptTimeout, lease)
      ? "config.attemptTimeout must be shorter than config.lease"
      : Duration.greaterThan(backoffMin, backoffMax)
        ? "config.backoffMin must not be longer than config.backoffMax"
        : undefined

/** The numbers that are in force, with some replaced. */
export const layer = (numbers: Numbers): Layer.Layer<never, string> =>
  Layer.unwrapEffect(
    Effect.flatMap(TokenConfig.TokenConfig, (config) => {
      const changed = TokenConfig.change(config, numbers)
      const problem = problemOf(changed)
      return problem === undefined ? Effect.succeed(TokenConfig.layer(changed)) : Effect.fail(problem)
    })
  )

/** The same for the same numbers, in whatever order and units they were given. */
export const keyOf = ({ windows, ...numbers }: Numbers): string =>
  JSON.stringify(
    [...Object.entries(numbers), ...Object.entries(windows).map(([name, value]) => [`windows.${name}`, value] as const)]
      .map(([name, value]) => [name, Duration.isDuration(value) ? Duration.toMillis(value) : value] as const)
      .sort(([one], [other]) => (one < other ? -1 : 1))
  )
