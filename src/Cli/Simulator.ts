/** `cal-tokens sandbox`: the simulator of Cal.com by itself. It keeps nothing: each start begins anew. */
import { parseArgs } from "node:util"
import { Console, type Duration, Effect, Either, Redacted } from "effect"
import * as Environment from "../Environment.js"
import * as AtSandbox from "../Environment/AtSandbox.js"
import * as Demo from "../Environment/Demo.js"
import * as Form from "../Environment/Form.js"
import * as Sandbox from "../Sandbox.js"

/** Beside the service's 4000. */
const usualPort = 4010

const options = {
  port: { type: "string" },
  host: { type: "string" },
  "redirect-url": { type: "string", multiple: true },
  "access-token-lifetime": { type: "string" },
  help: { type: "boolean", short: "h" }
} as const

const help = `cal-tokens sandbox

Simulates Cal.com on a port, for tests and for a look; not for production.

  --port N
      The port to listen on, by default ${usualPort}; 0 takes any free one.
  --host ADDRESS
      The address to listen on, by default 127.0.0.1. Whoever reaches it
      controls it.
  --redirect-url URL
      Where people are sent back to who consented; may be repeated. By default
      the callback of a service on port 4000.
  --access-token-lifetime DURATION
      How long access tokens live, such as "2 m"; by default as at Cal.com.

Over HTTP it explains itself: curl http://127.0.0.1:${usualPort}/_control
`

/**
 * What follows `sandbox` on the command line. By Node's own parser: the options of `@effect/cli` can be read from files, and
 * would bring parsers of TOML and YAML along.
 */
export const run = (args: ReadonlyArray<string>): Effect.Effect<void, Environment.StartError> =>
  Effect.gen(function* () {
    const given = yield* parse(args)
    if (given.help === true) return yield* Console.log(help)
    const port = given.port === undefined ? usualPort : yield* read("--port", Form.integer(0, 65_535), given.port)
    const host = given.host === undefined ? "127.0.0.1" : yield* read("--host", Form.host, given.host)
    const [first, ...others] = yield* Effect.forEach(given["redirect-url"] ?? [], (url) =>
      read("--redirect-url", Form.browserUrl, url)
    )
    const lifetime = given["access-token-lifetime"]
    return yield* serve({
      host,
      port,
      accessTokenLifetime:
        lifetime === undefined ? undefined : yield* read("--access-token-lifetime", Form.period, lifetime),
      oauth2: first === undefined ? Sandbox.demoOAuth2 : { ...Sandbox.demoOAuth2, redirectUris: [first, ...others] }
    })
  })

const parse = (args: ReadonlyArray<string>) =>
  Effect.try({
    try: () => parseArgs({ args: [...args], options }).values,
    catch: (error) =>
      new Environment.StartError({
        message: `${error instanceof Error ? firstSentence(error.message) : "wrong"} (cal-tokens sandbox --help)`
      })
  })

/** Node goes on with advice for rare cases. */
const firstSentence = (message: string) => message.split(/\n|\. /, 1).join("")

const serve = ({
  accessTokenLifetime,
  host,
  oauth2,
  port
}: {
  readonly host: string
  readonly port: number
  readonly accessTokenLifetime: Duration.Duration | undefined
  readonly oauth2: Sandbox.OAuth2Client
}): Effect.Effect<never, Environment.StartError> =>
  Effect.gen(function* () {
    const sandbox = yield* Sandbox.make({ accessTokenLifetime, oauth2 })
    const users = yield* Effect.forEach([Demo.ada, Demo.ben, Demo.cem], ({ kind, name }) => {
      const person = { email: Demo.emailOf(name), name }
      const granted: Effect.Effect<Sandbox.ManagedGrant | Sandbox.OAuth2Grant> =
        kind === "managed" ? sandbox.grantManaged(person) : sandbox.grantOAuth2(person)
      return Effect.map(granted, ({ calUserId, eventTypeId }) => ({ ...person, calUserId, eventTypeId, kind }))
    })
    const url = yield* Effect.mapError(
      Effect.provideService(Sandbox.listen({ host, port }), Sandbox.Sandbox, sandbox),
      ({ code, message }) =>
        new Environment.StartError({
          message: code === "EADDRINUSE" ? `${message}: the port is in use; take another one with --port` : message
        })
    )
    yield* Console.log(announcement(url, host, oauth2, users))
    return yield* Effect.never
  }).pipe(Effect.scoped)

const read = <A>(option: string, form: Form.Form<A>, text: string) =>
  Effect.mapError(
    Either.mapLeft(form.parse(text), (problem) => `${option} ${problem}`),
    (message) => new Environment.StartError({ message })
  )

const announcement = (
  url: string,
  host: string,
  oauth2: Sandbox.OAuth2Client,
  users: ReadonlyArray<{
    readonly calUserId: number
    readonly email: string
    readonly eventTypeId: number
    readonly kind: string
  }>
) => {
  const { demoManaged } = Sandbox
  const variables = AtSandbox.variables(url, demoManaged, oauth2)
  return [
    `A simulated Cal.com listens on ${url}`,
    "",
    "For tests and for looking around, NOT for production: everybody knows its",
    "secrets, whoever reaches it controls it, and it forgets all when it ends.",
    ...(Form.isLoopback(host) ? [] : ["", `Other machines may reach it: --host ${host}`]),
    "",
    "Client          Id                       Secret",
    `Platform        ${demoManaged.clientId.padEnd(25)}${Redacted.value(demoManaged.clientSecret)}`,
    `OAuth2          ${oauth2.clientId.padEnd(25)}${Redacted.value(Sandbox.demoOAuth2.clientSecret)}`,
    "",
    "User              Id       Kind      Event type (30min)",
    ...users.map(({ calUserId, email, eventTypeId, kind }) =>
      [email.padEnd(18), String(calUserId).padEnd(9), kind.padEnd(10), eventTypeId].join("")
    ),
    "",
    "Lead the service here:",
    "",
    ...Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(value)}`),
    "export CAL_TOKENS_API_KEYS=me:$(openssl rand -hex 32)",
    "",
    `What it can be told: curl ${url}/_control`,
    "",
    "Stop with Ctrl-C.",
    ""
  ].join("\n")
}

/** For a shell. */
const quoted = (value: string) => (/^[\w:/.,@+-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`)
