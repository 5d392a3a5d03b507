/** Whom tokens are for, by the variables of the clients: a real Cal.com, or none and so the simulator. */
import { type ConfigError, Data, Either, Option } from "effect"
import type * as CalClient from "../CalClient.js"
import { defaultApiUrl } from "../CalClient/Requests.js"
import * as ClientsFile from "./ClientsFile.js"
import * as Database from "./Database.js"
import * as Form from "./Form.js"
import * as Variable from "./Variable.js"
import { firstSet, type Values } from "./Variables.js"

/** Whom tokens are for, and where they are kept: what the sandbox issued never meets a real client. */
export type Cal = Data.TaggedEnum<{
  /** No client is configured: the simulator, for trying things out. */
  Sandbox: { readonly database: Database.Embedded }
  Client: {
    readonly database: Database.Database
    readonly options: CalClient.Options
  }
}>
export const Cal = Data.taggedEnum<Cal>()

/** With what is wrong with their combination. */
export const judge = (it: Values): Either.Either<Cal, ConfigError.ConfigError> =>
  Either.gen(function* () {
    const managed = Option.all({ clientId: it.CAL_CLIENT_ID, clientSecret: it.CAL_CLIENT_SECRET })
    const half = Option.isNone(managed) ? firstSet(it, "CAL_CLIENT_ID", "CAL_CLIENT_SECRET") : undefined
    if (half === "CAL_CLIENT_ID") {
      return yield* Variable.missing("CAL_CLIENT_SECRET", `with ${half}`, "the secret of the platform client")
    }
    if (half !== undefined) {
      return yield* Variable.missing("CAL_CLIENT_ID", `with ${half}`, "the id of the platform client")
    }
    const orphan = firstSet(
      it,
      "CAL_OAUTH_CLIENT_SECRET",
      "CAL_OAUTH_REDIRECT_URL",
      "CAL_OAUTH_AUTHORIZE_URL",
      "CAL_OAUTH_SCOPES"
    )
    if (Option.isNone(it.CAL_OAUTH_CLIENT_ID) && orphan !== undefined) {
      return yield* Variable.missing("CAL_OAUTH_CLIENT_ID", `with ${orphan}`, "the id of the OAuth2 client")
    }
    if (firstSet(it, "CAL_CLIENT_ID", "CAL_OAUTH_CLIENT_ID", "CAL_TOKENS_CLIENTS_FILE") !== undefined) {
      const apiUrl = Option.getOrElse(it.CAL_API_URL, () => defaultApiUrl)
      if (isTooOpen(it, apiUrl)) {
        return yield* Either.left(Variable.invalid("CAL_API_URL", `must be ${Form.secureUrl.expected}`))
      }
      return Cal.Client({
        database: yield* Database.judge(it),
        options: {
          apiUrl,
          managed: Option.getOrUndefined(managed),
          oauth2: yield* oauth2Of(it, apiUrl),
          ...(Option.isNone(it.CAL_TOKENS_CLIENTS_FILE)
            ? {}
            : { others: yield* othersOf(it, apiUrl, it.CAL_TOKENS_CLIENTS_FILE.value) })
        }
      })
    }
    const demo = Cal.Sandbox({ database: Database.embedded(it, "sandbox") })
    const deployed = it.CAL_TOKENS_DEMO ? undefined : signOfDeployment(it)
    return deployed === undefined
      ? demo
      : yield* Variable.missing(
          "CAL_CLIENT_ID",
          `with ${deployed}`,
          "the id of a platform client (or CAL_OAUTH_CLIENT_ID). Without a client this is a demo on a simulated Cal.com; " +
            "CAL_TOKENS_DEMO=1 starts it all the same"
        )
  })

/** What nobody sets who only wants to look: whoever did forgot the client, and would be given a demo open to others. */
const signOfDeployment = (it: Values): string | undefined => {
  if (Option.contains(it.NODE_ENV, "production")) return "NODE_ENV=production"
  if (!Form.isLoopback(it.HOST)) return "a HOST that others reach"
  return firstSet(it, "DATABASE_URL", "CAL_API_URL", "CAL_TOKENS_ENCRYPTION_KEYS", "CAL_TOKENS_API_KEYS")
}

/** The OAuth2 client of the environment. */
const oauth2Of = (
  it: Values,
  apiUrl: string
): Either.Either<CalClient.OAuth2Client | undefined, ConfigError.ConfigError> =>
  Either.gen(function* () {
    if (Option.isNone(it.CAL_OAUTH_CLIENT_ID)) return undefined
    return {
      clientId: it.CAL_OAUTH_CLIENT_ID.value,
      clientSecret: Option.getOrUndefined(it.CAL_OAUTH_CLIENT_SECRET),
      redirectUrl: Option.getOrUndefined(it.CAL_OAUTH_REDIRECT_URL),
      authorizeUrl: yield* authorizeUrlOf(it, apiUrl, it.CAL_OAUTH_AUTHORIZE_URL, (problem) =>
        Variable.invalid("CAL_OAUTH_AUTHORIZE_URL", problem)
      ),
      scopes: Option.getOrUndefined(it.CAL_OAUTH_SCOPES)
    }
  })

/** Those of the file, which have ids of their own. */
const othersOf = (it: Values, apiUrl: string, file: ClientsFile.Clients) =>
  Either.gen(function* () {
    const wrong = (place: ReadonlyArray<PropertyKey>) => (problem: string) =>
      Variable.wrongIn("CAL_TOKENS_CLIENTS_FILE", `${ClientsFile.placeOf(place)} ${problem}`)
    const taken = new Set([it.CAL_CLIENT_ID, it.CAL_OAUTH_CLIENT_ID].flatMap(Option.toArray))
    for (const kind of ["managed", "oauth2"] as const) {
      for (const [index, { clientId }] of file[kind].entries()) {
        if (taken.has(clientId)) {
          return yield* Either.left(wrong([kind, index, "clientId"])("must be that of no other client"))
        }
        taken.add(clientId)
      }
    }
    const oauth2 = yield* Either.all(
      file.oauth2.map(({ authorizeUrl, ...client }, index) =>
        Either.map(
          authorizeUrlOf(it, apiUrl, Option.fromNullable(authorizeUrl), wrong(["oauth2", index, "authorizeUrl"])),
          (authorizeUrl) => ({ ...client, authorizeUrl })
        )
      )
    )
    return { managed: file.managed, oauth2 }
  })

const isTooOpen = (it: Values, url: string) => Form.isPlaintext(url) && !it.CAL_API_ALLOW_HTTP

/** Cal.com runs twice, and nobody who consented at the one is known at the other. */
const twinOf = (url: string) => /(?:^|\.)(cal\.(?:com|eu))$/.exec(new URL(url).hostname)?.[1]

/** The consent page is at the same Cal.com as the API. */
const authorizeUrlOf = (
  it: Values,
  apiUrl: string,
  given: Option.Option<string>,
  wrong: (problem: string) => ConfigError.ConfigError
): Either.Either<string, ConfigError.ConfigError> => {
  const twin = twinOf(apiUrl)
  if (Option.isNone(given)) {
    return twin === undefined
      ? Either.left(
          wrong(
            "is required with an OAuth2 client and a CAL_API_URL of one's own: " +
              "the page https://<your Cal.com>/auth/oauth2/authorize"
          )
        )
      : Either.right(`https://app.${twin}/auth/oauth2/authorize`)
  }
  if (isTooOpen(it, given.value)) return Either.left(wrong(`must be ${Form.secureUrl.expected}`))
  return twinOf(given.value) === twin
    ? Either.right(given.value)
    : Either.left(wrong("must be at the same Cal.com as CAL_API_URL (cal.com, cal.eu or your own)"))
}
