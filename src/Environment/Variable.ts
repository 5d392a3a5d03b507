/** One environment variable: what people are told of it, and the `Config` that reads it. No refusal shows a value. */
import * as Fs from "node:fs"
import { Config, ConfigError, Duration, Either, Option } from "effect"
import type { Form } from "./Form.js"

export interface Variable<out A> {
  readonly name: string
  /** One or two sentences for people, in Markdown. */
  readonly description: string
  /** What to write. */
  readonly form: string
  /** What counts where it is not set, in Markdown. */
  readonly unset: string
  /** Never shown; and `<name>_FILE` may name a file that holds it. */
  readonly isSecret: boolean
  /** All that is looked at in the environment. */
  readonly names: ReadonlyArray<string>
  /** Reads it. A refusal is one line, `<name> <problem>`. */
  readonly config: Config.Config<A>
}

/** One with a value that counts where it is not set. */
export interface Defaulted<out A> extends Variable<A> {
  readonly default: A
}

export interface About {
  readonly description: string
  /** What counts where it is not set. */
  readonly unset?: string
}

/** May be left out, or empty. */
export const optional = <A>(name: string, form: Form<A>, about: About): Variable<Option.Option<A>> =>
  make(name, form, about, { names: [name], config: reading(form, inVariable(name)) })

export const defaulted = <A>(
  name: string,
  form: Form<A>,
  { default: value, description }: { readonly default: NoInfer<A>; readonly description: string }
): Defaulted<A> => {
  const { config, ...variable } = optional(name, form, { description, unset: `\`${written(value)}\`` })
  return {
    ...variable,
    default: value,
    config: Config.map(
      config,
      Option.getOrElse(() => value)
    )
  }
}

/** A number of the refresh rules: set, it replaces what is in force; an embedding program may have chosen another default. */
export const replacing = <A>(
  name: string,
  form: Form<A>,
  { default: value, description }: { readonly default: NoInfer<A>; readonly description: string }
): Variable<Option.Option<A>> => optional(name, form, { description, unset: `\`${written(value)}\`` })

/** May also stand in a file, which `<name>_FILE` names. */
export const secret = <A>(name: string, form: Form<A>, about: About): Variable<Option.Option<A>> => ({
  ...make(name, form, about, { names: [name, `${name}_FILE`], config: reading(form, inVariableOrFile(name)) }),
  isSecret: true
})

/** Names a file, whose text `form` judges by its places. */
export const file = <A>(name: string, form: Form<A>, about: About): Variable<Option.Option<A>> =>
  make(name, { ...form, expected: `a file with ${form.expected}` }, about, {
    names: [name],
    config: reading(form, inFile(name))
  })

/** Of two spellings the small one counts, as everywhere: some servers set `HTTP_PROXY` to what a request says. */
export const inEitherCase = <A>(
  name: string,
  of: (name: string) => Variable<Option.Option<A>>
): Variable<Option.Option<A>> => {
  const [small, large] = [of(name.toLowerCase()), of(name)]
  return {
    ...large,
    names: [...small.names, ...large.names],
    config: Config.zipWith(small.config, large.config, (first, second) => Option.orElse(first, () => second))
  }
}

/** What a variable reads. */
export type ValueOf<V> = V extends Variable<infer A> ? A : never

/** What several read. Of those that are wrong the first one is told. */
export const all = <Variables extends Readonly<Record<string, Variable<unknown>>>>(variables: Variables) =>
  Config.all(Object.values(variables).map(({ config }) => config)).pipe(
    Config.map((values) => Object.fromEntries(Object.keys(variables).map((name, index) => [name, values[index]])))
  ) as Config.Config<{ readonly [Name in keyof Variables]: ValueOf<Variables[Name]> }>

/** A refusal as one line, `<variable> <problem>`. */
export const invalid = (name: string, problem: string): ConfigError.ConfigError =>
  ConfigError.InvalidData([name], problem)

/** One that may be left out in general, and not here. */
export const missing = (name: string, when: string, expected: string) =>
  Either.left(invalid(name, `is required ${when}: ${expected}`))

/** What is wrong in a file that a variable names. */
export const wrongIn = (name: string, problem: string): ConfigError.ConfigError =>
  invalid(name, `names a file in which ${problem}`)

const make = <A>(
  name: string,
  form: Form<A>,
  { description, unset = "none" }: About,
  read: Pick<Variable<Option.Option<A>>, "config" | "names">
): Variable<Option.Option<A>> => ({
  name,
  description,
  form: form.expected,
  unset,
  isSecret: false,
  names: read.names,
  config: Config.withDescription(read.config, description)
})

/** A value as people would write it. */
const written = (value: unknown): string =>
  Duration.isDuration(value)
    ? Duration.format(value).replace(/\d(?=[a-z])/g, "$& ")
    : typeof value === "boolean"
      ? String(Number(value))
      : String(value)

/** A text that was found, and what is said of it where it is wrong. */
interface Found {
  readonly text: string
  readonly refuse: (problem: string) => ConfigError.ConfigError
}

type Look = Config.Config<Option.Option<Found>>

const reading = <A>(form: Form<A>, look: Look): Config.Config<Option.Option<A>> =>
  Config.mapOrFail(look, (found) =>
    Option.match(found, {
      onNone: () => Either.right(Option.none()),
      onSome: ({ refuse, text }) => Either.mapBoth(form.parse(text), { onLeft: refuse, onRight: Option.some })
    })
  )

const inVariable = (name: string): Look => Config.map(raw(name), Option.map(found(name)))

const inFile = (name: string): Look => Config.mapOrFail(raw(name), opened(name, wrongIn))

const inVariableOrFile = (name: string): Look => {
  const file = `${name}_FILE`
  const open = opened(file, (file, problem) => invalid(file, `must name a file whose text is right: it ${problem}`))
  return Config.zip(raw(name), raw(file)).pipe(
    Config.mapOrFail(([text, path]) =>
      Option.isSome(text) && Option.isSome(path)
        ? Either.left(invalid(name, `must not be set beside ${file}`))
        : Either.map(
            open(path),
            Option.orElse(() => Option.map(text, found(name)))
          )
    )
  )
}

const raw = (name: string) =>
  Config.string(name).pipe(
    Config.option,
    Config.map(Option.map((text) => text.trim())),
    Config.map(Option.filter((text) => text !== ""))
  )

const found =
  (name: string, wrong = invalid) =>
  (text: string): Found => ({ text, refuse: (problem) => wrong(name, problem) })

const opened =
  (name: string, wrong: typeof invalid) =>
  (path: Option.Option<string>): Either.Either<Option.Option<Found>, ConfigError.ConfigError> =>
    Option.match(path, {
      onNone: () => Either.right(Option.none()),
      onSome: (path) => Either.map(contentOf(name, path), (text) => Option.some(found(name, wrong)(text)))
    })

const contentOf = (name: string, path: string): Either.Either<string, ConfigError.ConfigError> =>
  Either.try({
    try: () => Fs.readFileSync(path, "utf8").trim(),
    catch: (error) => {
      const code = error instanceof Error && "code" in error ? String(error.code) : "unreadable"
      return invalid(name, `must name a file that can be read (${code})`)
    }
  })
