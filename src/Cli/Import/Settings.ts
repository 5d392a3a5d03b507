/** What the command line of `cal-tokens import` says: its options, and what follows from them together. */
import { Options } from "@effect/cli"
import { Config, Effect, Either, Option, Redacted, type Scope } from "effect"
import type { StartError } from "../../Environment.js"
import * as Environment from "../../Environment.js"
import * as Form from "../../Environment/Form.js"
import * as Variable from "../../Environment/Variable.js"
import { ofForm } from "../OfForm.js"
import { UsageError } from "../Usage.js"
import * as Files from "./Files.js"
import type { Columns, Source } from "./Source.js"
import * as Table from "./Table.js"

const optional = (name: string) => Options.optional(Options.text(name))

const named = (name: string, usual: string) => Options.withDefault(Options.text(name), usual)

export const options = {
  fromPostgres: Options.optional(Options.redacted("from-postgres")),
  table: optional("table"),
  fromCsv: optional("from-csv"),
  fromJsonl: optional("from-jsonl"),
  toHttp: optional("to-http"),
  kind: Options.withDefault(ofForm("kind", "KIND", Form.oneOf("managed", "oauth2")), "managed" as const),
  clientId: optional("client-id"),
  columnUser: named("column-user", "userUlid"),
  columnCalUser: named("column-cal-user", "calManagedUserId"),
  columnAccessToken: named("column-access-token", "calAccessToken"),
  columnRefreshToken: named("column-refresh-token", "calRefreshToken"),
  columnExpiry: named("column-expiry", "calAccessTokenExpiresAt"),
  columnRefreshExpiry: optional("column-refresh-expiry"),
  rejected: named("rejected", "import-rejected.jsonl"),
  after: optional("after"),
  fromStart: Options.boolean("from-start"),
  dryRun: Options.boolean("dry-run"),
  verify: Options.boolean("verify"),
  verifyUsers: Options.withDefault(ofForm("verify-users", "N", Form.integer(1, 1000)), 20)
}

/** Their own help: the one that is made of options does not say which of them belong together. */
export const help = `cal-tokens import

Takes over the Cal.com connections that another system has kept until now. It
may be repeated while both run: a user who was refreshed here since is left
alone. Reads one of

  --from-postgres URL --table NAME
      A table or view, such as users or public."User". Nothing is written
      there. The password may be in PGPASSWORD or ~/.pgpass instead of the URL.
  --from-csv FILE
      CSV whose first line names the columns; - is standard input.
  --from-jsonl FILE
      A JSON object in each line; - is standard input.

and writes into the database that \`cal-tokens serve\` would have with the same
environment, or

  --to-http URL
      gives it to a service that runs there. CAL_TOKENS_API_KEY, or the file
      that CAL_TOKENS_API_KEY_FILE names, holds a key with the scope manage.

Who is imported:

  --kind managed|oauth2
      How all of them are connected, by default managed.
  --client-id ID
      Their Cal.com client, where there are several.
  --after USER
      Begins behind the row of this user.
  --from-start
      Begins with the first row. Otherwise an import that was stopped in the
      middle goes on there.

What the columns are called:

  --column-user NAME            Your user's id, a ULID or a UUID: userUlid
  --column-cal-user NAME        The user's id at Cal.com: calManagedUserId
  --column-access-token NAME    calAccessToken
  --column-refresh-token NAME   calRefreshToken
  --column-expiry NAME          Of the access token: calAccessTokenExpiresAt
  --column-refresh-expiry NAME  Of the refresh token; by default there is none

An expiry is an instant, or seconds or milliseconds since 1970; without a zone
it is UTC. A row with neither account nor tokens is a user who is not
connected, and is passed over.

What is told:

  --dry-run
      Looks at all rows, writes nothing, and says what would happen.
  --rejected FILE
      Where to write which rows were rejected and why, without tokens; by
      default import-rejected.jsonl. FILE.state beside it says how far an
      import is, and is removed at its end.
  --verify
      At the end asks Cal.com who some of the imported users are. Nothing is
      refreshed: users whose access tokens have expired are left out.
  --verify-users N
      How many --verify asks about, 20 by default.

The exit code is 0; 3 if rows were rejected or --verify found somebody else;
1 if the import could not run or was stopped; 2 if an option is wrong.
`

type ValueOf<Option> = Option extends Options.Options<infer A> ? A : never

export type Given = { readonly [Name in keyof typeof options]: ValueOf<(typeof options)[Name]> }

const usage = (message: string) => new UsageError({ message })

export const columnsOf = (given: Given): Columns => ({
  user: given.columnUser,
  calUser: given.columnCalUser,
  accessToken: given.columnAccessToken,
  refreshToken: given.columnRefreshToken,
  expiry: given.columnExpiry,
  refreshExpiry: Option.getOrUndefined(given.columnRefreshExpiry)
})

/** What contradicts itself is told before anything is opened. */
export const check = (given: Given): Effect.Effect<void, UsageError> =>
  Effect.gen(function* () {
    const sources = [given.fromPostgres, given.fromCsv, given.fromJsonl].filter((each) =>
      Option.isSome<unknown>(each)
    ).length
    if (sources !== 1) {
      return yield* usage(
        `import needs ${sources === 0 ? "a source" : "one source, not several"}: --from-postgres URL --table NAME, --from-csv FILE or --from-jsonl FILE`
      )
    }
    if (Option.isSome(given.fromPostgres) !== Option.isSome(given.table)) {
      return yield* usage(
        Option.isSome(given.table) ? "--table belongs to --from-postgres URL" : "--from-postgres needs --table NAME"
      )
    }
    const columns = Object.values(columnsOf(given)).filter((name) => name !== undefined)
    if (columns.includes("")) return yield* usage("A column has a name")
    if (new Set(columns).size < columns.length) return yield* usage("Two of the --column options name the same column")
    if (given.verify && given.dryRun)
      return yield* usage("--verify asks about what was stored, and --dry-run stores nothing")
    if (given.verify && Option.isSome(given.toHttp)) {
      return yield* usage("--verify looks into the database of the service: it does not go with --to-http")
    }
  })

export const sourceOf = (given: Given): Effect.Effect<Source, StartError | UsageError, Scope.Scope> =>
  Effect.gen(function* () {
    const columns = columnsOf(given)
    if (Option.isSome(given.fromCsv)) return yield* Files.csv(given.fromCsv.value, columns)
    if (Option.isSome(given.fromJsonl)) return yield* Files.jsonLines(given.fromJsonl.value, columns)
    const url = Option.getOrElse(given.fromPostgres, () => Redacted.make(""))
    if (Either.isLeft(Form.postgresUrl.parse(Redacted.value(url)))) {
      return yield* usage(`--from-postgres must be ${Form.postgresUrl.expected}`)
    }
    return yield* Table.make(
      url,
      Option.getOrElse(given.table, () => ""),
      columns
    )
  })

/** Where a service is. Keys and tokens go there. */
export const serviceOf = (text: string): Effect.Effect<string, UsageError> =>
  Either.match(Form.secureUrl.parse(text), {
    onLeft: () => usage("--to-http must be an https URL without query"),
    onRight: (url) =>
      Form.isPlaintext(url)
        ? usage("--to-http must be an https URL (http only to this machine): API key and tokens go there")
        : Effect.succeed(url)
  })

const apiKey = Variable.secret(
  "CAL_TOKENS_API_KEY",
  { expected: "an API key of the service", parse: (text) => Either.map(Form.text.parse(text), Redacted.make) },
  { description: "The key with which `cal-tokens import --to-http` asks a service." }
)

export const loadKey: Effect.Effect<Redacted.Redacted, StartError> = Environment.loading(
  Config.mapOrFail(
    apiKey.config,
    Either.fromOption(() =>
      Variable.invalid(apiKey.name, `is required with --to-http: ${apiKey.form} with the scope manage`)
    )
  )
)
