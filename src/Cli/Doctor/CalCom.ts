/**
 * Cal.com, asked with tokens and codes that were made up: it looks at the client first, so its refusal tells whether it takes the
 * client, and nothing is spent. Its answers are told in words of ours: what they quote may be anything.
 */
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { Clock, Effect, Option, Predicate, Redacted } from "effect"
import type * as CalClient from "../../CalClient.js"
import * as Requests from "../../CalClient/Requests.js"
import * as Secrets from "../../CalClient/Secrets.js"
import * as CalTime from "../../CalHttp/CalTime.js"
import { TokenHttp } from "../../CalHttp/HttpClients.js"
import { reasonOf } from "../../CalHttp/Transport.js"
import { type Finding, looking, ok, warning, wrong } from "./Finding.js"

/** Nobody's token. */
const madeUp = Redacted.make("made-up-by-cal-tokens-doctor")
/** As long as a verifier has to be. */
const verifier = Redacted.make("made-up-by-cal-tokens-doctor-for-a-public-client")

/** In ms: more, and browsers and other services disagree, too. */
const skew = 30_000

interface Answer {
  readonly status: number
  /** What Cal.com says is wrong, in lower case; empty where nobody says anything that it would. */
  readonly words: string
  readonly isJson: boolean
  /** In ms: how far Cal.com's clock is ahead of ours. */
  readonly ahead: number | undefined
  readonly remaining: number | undefined
  readonly limit: number | undefined
  readonly resetIn: string | undefined
}

const ask = (request: HttpClientRequest.HttpClientRequest): Effect.Effect<Answer, string, TokenHttp> =>
  Effect.gen(function* () {
    const http = yield* TokenHttp
    const began = yield* Clock.currentTimeMillis
    const response = yield* Effect.mapError(http.execute(request), (error) => reasonOf(error))
    const ended = yield* Clock.currentTimeMillis
    const text = yield* Effect.mapError(response.text, () => "the answer broke off")
    const json = Option.getOrUndefined(Option.liftThrowable(JSON.parse)(text)) as unknown
    const header = (name: string) => response.headers[name]
    const number = (name: string) => {
      const text = header(name)
      return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined
    }
    // It tells whole seconds, of which half has passed.
    const date = CalTime.dateOf(response.headers, ended)
    return {
      status: response.status,
      words: wordsOf(json).toLowerCase(),
      isJson: Predicate.isRecord(json),
      ahead: Option.getOrUndefined(Option.map(date, (date) => date + 500 - (began + ended) / 2)),
      remaining: number("x-ratelimit-remaining-default"),
      limit: number("x-ratelimit-limit-default"),
      resetIn: header("x-ratelimit-reset-default")
    }
  }).pipe(
    Effect.scoped,
    Effect.timeoutFail({ duration: "8 seconds", onTimeout: () => "no answer within 8s" }),
    // The driver's spans would hold the secret.
    Effect.withTracerEnabled(false)
  )

const wordsOf = (json: unknown): string => {
  if (!Predicate.isRecord(json)) return ""
  const { error, error_description, message } = json
  const said = Predicate.isRecord(error)
    ? error["message"]
    : [error, error_description].filter(Predicate.isString).join(" ")
  return [said, message].filter(Predicate.isString).join(" ")
}

/** Where somebody looks for what is wrong of a client. */
interface Names {
  readonly id: string
  readonly secret: string
  readonly redirect: string
}
const inEnvironment = {
  managed: { id: "CAL_CLIENT_ID", secret: "CAL_CLIENT_SECRET", redirect: "" },
  oauth2: { id: "CAL_OAUTH_CLIENT_ID", secret: "CAL_OAUTH_CLIENT_SECRET", redirect: "CAL_OAUTH_REDIRECT_URL" }
}
const inFile: Names = {
  id: "its clientId in CAL_TOKENS_CLIENTS_FILE",
  secret: "its clientSecret in CAL_TOKENS_CLIENTS_FILE",
  redirect: "its redirectUrl in CAL_TOKENS_CLIENTS_FILE"
}

/** What is wrong with any client, whatever its kind; none: its own words have to be looked at. */
const general = (check: string, { isJson, resetIn, status, words }: Answer): Finding | undefined => {
  if (status === 429) {
    return warning(
      check,
      "Cal.com's rate limit is used up, so it could not be asked.",
      `Ask again in ${resetIn ?? "60"} s.`
    )
  }
  if (status >= 500) return warning(check, `Cal.com answers ${status}.`, "That is Cal.com's: look at its status page.")
  if (status >= 300 && status < 400) {
    return wrong(
      check,
      `CAL_API_URL answers with a redirect (${status}).`,
      "Write the address it leads to, with its version."
    )
  }
  if (!isJson || status < 300 || (status === 404 && words.startsWith("cannot "))) {
    return wrong(
      check,
      `Whoever answers at CAL_API_URL (${status}) is not Cal.com's API.`,
      "It is the base with the version, such as https://api.cal.com/v2."
    )
  }
  return undefined
}

const isCal = (answer: Answer) => answer.status === 429 || general("", answer) === undefined

const unexpected = (check: string, status: number) =>
  warning(
    check,
    `Cal.com answers ${status}, which it is not known to do to such a question.`,
    "Whether it takes the client shows when somebody's token is refreshed."
  )

const approval =
  "Whether Cal.com has approved it does not show without a person: until then its owner alone is let in, and others read " +
  '"OAuth client is not approved" on the consent page. It is reviewed again after changes of name, logo, website, redirect URL or more scopes.'

const managed = (apiUrl: string, { clientId, clientSecret }: CalClient.ManagedClient, names: Names) => {
  const check = `platform client ${clientId}`
  return Effect.forEach(Secrets.list(clientSecret).filter(Predicate.isNotUndefined), (secret, index) =>
    Effect.map(ask(Requests.refreshManaged(apiUrl, { clientId, clientSecret: secret }, madeUp)), (answer) => {
      const { status, words } = answer
      const found =
        general(check, answer) ??
        (words.includes("invalid refresh token") || words.startsWith("invalid query")
          ? ok(check, "Cal.com knows it, and takes its secret.")
          : status === 401 && words.includes("client with id") && words.includes("not found")
            ? wrong(
                check,
                "Cal.com does not know this id.",
                `Check ${names.id}, and that CAL_API_URL is where it was made (cal.com or cal.eu).`
              )
            : status === 401 && words.includes("invalid client secret")
              ? wrong(
                  check,
                  `Cal.com refuses ${nameOf(index)} secret.`,
                  `Check ${names.secret}: Cal.com shows it once, when it is made.`
                )
              : status === 403
                ? wrong(
                    check,
                    "Cal.com does not let this client act for its organization.",
                    "Its owner must be an admin of a platform organization."
                  )
                : unexpected(check, status))
      return { answer, found }
    })
  )
}

const nameOf = (index: number) => (index === 0 ? "its" : "its second")

const oauth2 = (apiUrl: string, client: CalClient.OAuth2Client, names: Names) => {
  const { clientId, clientSecret, redirectUrl, scopes } = client
  const check = `OAuth2 client ${clientId}`
  const secrets: ReadonlyArray<Redacted.Redacted | undefined> =
    clientSecret === undefined ? [undefined] : Secrets.list(clientSecret).filter(Predicate.isNotUndefined)
  const credentials = Effect.forEach(secrets, (secret, index) =>
    Effect.map(ask(Requests.refreshOAuth2(apiUrl, { clientId, clientSecret: secret }, madeUp)), (answer) => {
      const { status, words } = answer
      const found =
        general(check, answer) ??
        (words.includes("invalid_refresh_token") || words.includes("refresh_token_revoked")
          ? ok(check, `Cal.com knows it${secret === undefined ? "" : ", and takes its secret"}. ${approval}`)
          : words.includes("client_not_found")
            ? wrong(
                check,
                "Cal.com does not know this id.",
                `Check ${names.id}, and that CAL_API_URL is where it was made (cal.com or cal.eu).`
              )
            : words.includes("invalid_client_credentials") || words.includes("invalid_client")
              ? wrong(
                  check,
                  secret === undefined
                    ? "Cal.com wants a secret: this is not a public client."
                    : `Cal.com refuses ${nameOf(index)} secret.`,
                  secret === undefined ? `Set ${names.secret}.` : `Check ${names.secret}, or make a new one at Cal.com.`
                )
              : words.includes("client_rejected")
                ? wrong(check, "Cal.com has rejected this client.", "Ask Cal.com why, or make another one.")
                : words.includes("client_not_approved")
                  ? wrong(
                      check,
                      "Cal.com has not approved this client yet: its owner alone is let in.",
                      "Wait for the review."
                    )
                  : unexpected(check, status))
      return { answer, found }
    })
  )
  const redirect =
    redirectUrl === undefined
      ? Effect.succeed([])
      : Effect.map(
          ask(Requests.exchange(apiUrl, { clientId, clientSecret: secrets[0], redirectUrl }, madeUp, verifier)),
          (answer) => {
            const { words } = answer
            const found = words.includes("redirect_uri_mismatch")
              ? wrong(
                  check,
                  "Cal.com has another redirect URL for it: people would read that on its page, and never come back.",
                  `Register the one in ${names.redirect} at Cal.com, letter by letter.`
                )
              : words.includes("code_invalid_or_expired") || words.includes("invalid_client_credentials")
                ? ok(check, "Its redirect URL is registered.")
                : undefined
            return found === undefined ? [] : [{ answer, found }]
          }
        )
  const asked = Effect.map(Effect.all([credentials, redirect]), (all) => all.flat())
  return Effect.map(asked, (found) => [...found, ...scopesOf(check, scopes).map((found) => ({ found }))])
}

/** READ beside WRITE of one thing is not asked for together. */
const scopesOf = (check: string, scopes: ReadonlyArray<string> | undefined): ReadonlyArray<Finding> => {
  if (scopes === undefined || scopes.length === 0) {
    return [
      warning(
        check,
        "No scopes are asked for, which only clients of the old kind may do: Cal.com's page says that they are required.",
        "List in CAL_OAUTH_SCOPES what the client is registered for."
      )
    ]
  }
  const both = scopes.filter((scope) => scope.endsWith("_READ") && scopes.includes(scope.replace(/READ$/, "WRITE")))
  return both.length === 0
    ? []
    : [
        warning(
          check,
          `${both.join(", ")} ${both.length === 1 ? "is" : "are"} asked for beside the WRITE of the same.`,
          "Cal.com does not want both: leave out the READ."
        )
      ]
}

const clock = (answers: ReadonlyArray<Answer>): Finding => {
  const check = "clock of Cal.com"
  const ahead = answers.find(({ ahead }) => ahead !== undefined)?.ahead
  if (ahead === undefined) {
    return warning(
      check,
      "Its answers have no date.",
      "Something on the way takes it out: expiries go by our clock then."
    )
  }
  const seconds = Math.round(Math.abs(ahead) / 1000)
  return Math.abs(ahead) <= skew
    ? ok(check, "It agrees with the clock of this machine.")
    : warning(
        check,
        `It is ${seconds} s ${ahead > 0 ? "ahead of" : "behind"} the clock of this machine.`,
        "Expiries follow Cal.com's, so nobody is served a dead token; let NTP set this machine's."
      )
}

const budget = (answers: ReadonlyArray<Answer>): Finding => {
  const check = "rate limit"
  const known = answers.flatMap(({ limit, remaining }) =>
    limit === undefined || remaining === undefined ? [] : [{ limit, remaining }]
  )
  const least = known.sort((one, other) => one.remaining / one.limit - other.remaining / other.limit)[0]
  if (least === undefined)
    return warning(check, "Cal.com's answers do not tell it.", "Something on the way takes the headers out.")
  const { limit, remaining } = least
  return remaining * 5 < limit
    ? warning(
        check,
        `${remaining} of ${limit} calls of this minute are left.`,
        "More clients help: see cal-tokens capacity."
      )
    : ok(check, `${remaining} of ${limit} calls of this minute are left.`)
}

export const look = (options: CalClient.Options): Effect.Effect<ReadonlyArray<Finding>, never, TokenHttp> =>
  Effect.gen(function* () {
    const { apiUrl, managed: first, oauth2: second, others } = options
    const platform = [
      ...(first === undefined ? [] : [{ client: first, names: inEnvironment.managed }]),
      ...(others?.managed ?? []).map((client) => ({ client, names: inFile }))
    ]
    const apps = [
      ...(second === undefined ? [] : [{ client: second, names: inEnvironment.oauth2 }]),
      ...(others?.oauth2 ?? []).map((client) => ({ client, names: inFile }))
    ]
    const answers: Array<Answer> = []
    const keep = Effect.map((asked: ReadonlyArray<{ readonly answer?: Answer; readonly found: Finding }>) => {
      // Another's clock and limits are nobody's.
      answers.push(...asked.flatMap(({ answer }) => (answer !== undefined && isCal(answer) ? [answer] : [])))
      return asked.map(({ found }) => found)
    })
    const reached = (check: string, asked: Effect.Effect<ReadonlyArray<Finding>, string, TokenHttp>) =>
      looking(
        check,
        Effect.catchAll(asked, (reason) =>
          Effect.succeed(
            wrong(
              check,
              `Cal.com cannot be reached: ${reason}.`,
              "Check CAL_API_URL, the network, and HTTPS_PROXY where there is one."
            )
          )
        )
      )
    const found = yield* Effect.forEach(
      [
        ...platform.map(({ client, names }) =>
          reached(`platform client ${client.clientId}`, keep(managed(apiUrl, client, names)))
        ),
        ...apps.map(({ client, names }) =>
          reached(`OAuth2 client ${client.clientId}`, keep(oauth2(apiUrl, client, names)))
        )
      ],
      (each) => each,
      { concurrency: 4 }
    )
    return [...found.flat(), ...(answers.length === 0 ? [] : [clock(answers), budget(answers)])]
  })
