/** `cal-tokens sandbox`: the simulator of Cal.com by itself. It keeps nothing: each start begins anew. */
import { Command, Options } from "@effect/cli"
import { Console, type Duration, Effect, Either, Option, Redacted } from "effect"
import * as Environment from "../Environment.js"
import * as AtSandbox from "../Environment/AtSandbox.js"
import * as Demo from "../Environment/Demo.js"
import * as Form from "../Environment/Form.js"
import * as Sandbox from "../Sandbox.js"
import { ofForm } from "./OfForm.js"

/** Beside the service's 4000. */
const usualPort = 4010

const options = {
  port: ofForm("port", "N", Form.integer(0, 65_535)).pipe(
    Options.withDescription(`The port to listen on, by default ${usualPort}; 0 takes any free one.`),
    Options.withDefault(usualPort)
  ),
  host: ofForm("host", "ADDRESS", Form.host).pipe(
    Options.withDescription("The address to listen on, by default 127.0.0.1. Whoever reaches it controls it."),
    Options.withDefault("127.0.0.1")
  ),
  redirectUrls: Options.text("redirect-url").pipe(
    Options.withPseudoName("URL"),
    Options.withDescription(
      "Where people are sent back to who consented; may be repeated. By default the callback of a service on port 4000."
    ),
    Options.repeated,
    Options.filterMap(
      (texts) => Option.all(texts.map((text) => Either.getRight(Form.browserUrl.parse(text)))),
      `--redirect-url must be ${Form.browserUrl.expected}`
    )
  ),
  accessTokenLifetime: ofForm("access-token-lifetime", "DURATION", Form.period).pipe(
    Options.withDescription('How long access tokens live, such as "2 m"; by default as at Cal.com.'),
    Options.optional
  )
}

export const command = Command.make("sandbox", options, ({ accessTokenLifetime, host, port, redirectUrls }) => {
  const [first, ...others] = redirectUrls
  return serve({
    host,
    port,
    accessTokenLifetime: Option.getOrUndefined(accessTokenLifetime),
    oauth2: first === undefined ? Sandbox.demoOAuth2 : { ...Sandbox.demoOAuth2, redirectUris: [first, ...others] }
  })
}).pipe(Command.withDescription("Simulate Cal.com on a port, for tests; not for production."))

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
