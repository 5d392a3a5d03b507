/** The simulator for tests of programs that know promises and not Effect: on a port, with the product beside it. */
import { Cause, Context, Duration, Effect, Either, Exit, Layer, Logger, LogLevel, ManagedRuntime, Ref } from "effect"
import { CalTokens } from "../CalTokens.js"
import * as AtSandbox from "../Environment/AtSandbox.js"
import * as KeepAlive from "../Fibers/KeepAlive.js"
import * as Quiet from "../Fibers/Quiet.js"
import * as Sandbox from "../Sandbox.js"
import { toPlain } from "../Sandbox/Grants.js"
import * as Listener from "../Sandbox/Listener.js"
import { InvalidInput } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import { connectManaged, connectOAuth2, layerTest, listOf, type TestOptions } from "./Product.js"

/**
 * What differs from a Cal.com as it is by default, and where it listens.
 *
 * @since 0.1.0
 * @category models
 */
export interface StartOptions extends TestOptions, Sandbox.ListenOptions {
  /** What is logged of what `layer` does, `"Info"` and above for example. Default `"None"`: what fails says so itself. */
  readonly logLevel?: LogLevel.Literal | undefined
}

/**
 * Somebody at Cal.com, of the one kind or the other.
 *
 * @since 0.1.0
 * @category models
 */
export interface LocalPerson extends Sandbox.Person {
  /** Default `managed`. */
  readonly kind?: "managed" | "oauth2" | undefined
  /** OAuth2, space-separated. Default: all that the client may ask for. */
  readonly scope?: string | undefined
}

/**
 * A user, named as `/_control` names them: by Cal.com's number, or by the address that they were made with. Or by what `grant`
 * and `connect` answered, or your own ULID of somebody whom `connect` connected.
 *
 * @since 0.1.0
 * @category models
 */
export type LocalUser = string | number | { readonly calUserId: number }

/**
 * A running simulator, and what a test may do to it. Promises reject with an `Error` that says what is wrong.
 *
 * @since 0.1.0
 * @category models
 */
export interface LocalSandbox {
  /** Where it listens, such as `http://127.0.0.1:49152`; `/v2` is below it, and `/_control` for other languages. */
  readonly url: string
  /** The platform client, for managed users. */
  readonly clientId: string
  readonly clientSecret: string
  /** The OAuth2 client. */
  readonly oauth2: { readonly clientId: string; readonly clientSecret: string | undefined }
  /** For the service, or for actions without a `layer`: the variables that lead them here. */
  readonly env: Readonly<Record<string, string>>
  /**
   * The product over memory and this simulator: `Actions.make({ layer: cal.layer })` needs no database, and finds the users
   * that `connect` connects.
   */
  readonly layer: Layer.Layer<Services>
  /** Connects a user of your program in `layer`, new at Cal.com unless `person` says whom. */
  readonly connect: (userUlid: string, person?: LocalPerson) => Promise<Sandbox.PlainGrant>
  /**
   * Tokens of somebody, for a program that connects its users itself: what `PUT /api/cal/connections/{userUlid}` takes. A
   * managed user's earlier tokens end.
   */
  readonly grant: (person?: LocalPerson) => Promise<Sandbox.PlainGrant>
  /** A code as the redirect after consent carries it. */
  readonly authorizationCode: (
    person?: LocalPerson & { readonly codeChallenge?: string | undefined }
  ) => Promise<string>
  /** The access tokens of a user expire at Cal.com, before their time: its API refuses them. */
  readonly expire: (user: LocalUser) => Promise<void>
  /** Their refresh tokens end: somebody who consented has to consent again, a managed user is issued a new pair. */
  readonly revoke: (user: LocalUser) => Promise<void>
  /** They are deleted at Cal.com. */
  readonly deleteUser: (user: LocalUser) => Promise<void>
  /** Queues a mishap, `Fault.dropAfter({ kind: "refresh" })`. The oldest that matches a request strikes it, once. */
  readonly inject: (fault: Sandbox.Fault) => void
  readonly clearFaults: () => void
  /** Turns some of the switches by which Cal.com is in another mood. */
  readonly turn: (switches: Partial<Sandbox.Switches>) => void
  /** The last requests that reached Cal.com, in the order in which they were answered. */
  readonly calls: () => ReadonlyArray<Sandbox.Call>
  /**
   * How many there were since the start or `resetCalls`, of all users or of one at Cal.com. A managed user's refresh is a
   * `refresh`, that of somebody who consented an `oauth2Refresh`.
   */
  readonly count: (kind: Sandbox.Kind, calUserId?: number) => number
  readonly resetCalls: () => void
  /** Ends everything. A script may end without it: nothing that only listens keeps it from ending. */
  readonly close: () => Promise<void>
}

type Services = Layer.Layer.Success<ReturnType<typeof layerTest>>

class Url extends Context.Tag("cal-tokens/Testing/Url")<Url, string>() {}

/**
 * Starts a simulator of Cal.com for tests, on a free port of this machine. Rejects with `ListenError` where that cannot be.
 *
 * ```ts
 * import * as Actions from "cal-tokens/actions"
 * import { startSandbox } from "cal-tokens/sandbox"
 *
 * const cal = await startSandbox()
 * const actions = Actions.make({ layer: cal.layer })
 *
 * const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
 * await cal.connect(ada)
 * await cal.expire(ada)
 * console.log(await actions.makeCalApiRequest("/me", "GET", undefined, ada), cal.count("refresh"))
 * await actions.dispose()
 * await cal.close()
 * ```
 *
 * @since 0.1.0
 * @category testing
 */
export const startSandbox = async ({
  config,
  host,
  logLevel = "None",
  port,
  ...options
}: StartOptions = {}): Promise<LocalSandbox> => {
  const quiet = Logger.minimumLogLevel(LogLevel.fromLiteral(logLevel))
  const runtime = ManagedRuntime.make(
    Layer.scoped(
      Url,
      Effect.flatMap(Sandbox.Sandbox, ({ app }) => Listener.listen(app, { host, port }, { keepsProcess: false }))
    ).pipe(
      // This Cal.com has no replicas: what it refuses is refused, and a test does not wait until a token is old enough.
      Layer.provideMerge(layerTest({ ...options, config: { youngToken: Duration.zero, ...config } })),
      // Whatever still waits when a test is over keeps no test runner from ending.
      Layer.provideMerge(Layer.merge(Quiet.layer, quiet))
    )
  )
  const run = async <A, E>(effect: Effect.Effect<A, E, Services | Url>): Promise<A> => {
    const release = KeepAlive.hold()
    try {
      return fromExit(await runtime.runPromiseExit(effect))
    } finally {
      release()
    }
  }
  const [url, sandbox] = await run(Effect.all([Url, Sandbox.Sandbox]))
  const { context } = await runtime.runtime()

  /** None of these waits for anything. */
  const now = <A>(effect: Effect.Effect<A>): A => runtime.runSync(effect)

  const grant = ({ kind, scope, ...person }: LocalPerson = {}) =>
    Effect.flatMap(kindOf(kind), (kind) =>
      kind === "managed"
        ? Effect.map(sandbox.grantManaged(person), toPlain)
        : Effect.map(sandbox.grantOAuth2({ ...person, scope }), toPlain)
    )

  /** An own ULID has a name of Cal.com's, which the simulator does not know by itself. */
  const nameOf = (user: LocalUser) =>
    typeof user === "object"
      ? Effect.succeed(user.calUserId)
      : typeof user === "number" || isCals(user)
        ? Effect.succeed(user)
        : Effect.gen(function* () {
            const tokens = yield* CalTokens
            const { connection } = yield* tokens.info(yield* TokenInput.userUlid(user))
            return connection.calUserId ?? 0
          })
  const calUserIdOf = (user: LocalUser) =>
    Effect.flatMap(
      Effect.flatMap(nameOf(user), sandbox.find),
      Either.fromOption(() => noSuchUser)
    )
  const toUser = (act: (calUserId: number) => Effect.Effect<void>) => (user: LocalUser) =>
    run(Effect.flatMap(calUserIdOf(user), act))

  const [managed] = listOf<Sandbox.ManagedClient>(options.managed ?? Sandbox.demoManaged)
  const [oauth2] = listOf<Sandbox.OAuth2Client>(options.oauth2 ?? Sandbox.demoOAuth2)

  return {
    url,
    clientId: managed?.clientId ?? "",
    clientSecret: managed === undefined ? "" : AtSandbox.textOf(managed.clientSecret),
    oauth2: {
      clientId: oauth2?.clientId ?? "",
      clientSecret: oauth2?.clientSecret && AtSandbox.textOf(oauth2.clientSecret)
    },
    env: AtSandbox.variables(url, managed, oauth2),
    layer: Layer.merge(Layer.succeedContext(context), quiet),
    connect: (userUlid, { kind, scope, ...person } = {}) =>
      run(
        Effect.flatMap(kindOf(kind), (kind) =>
          kind === "managed"
            ? Effect.map(connectManaged(userUlid, person), toPlain)
            : Effect.map(connectOAuth2(userUlid, { ...person, scope }), toPlain)
        )
      ),
    grant: (person) => run(grant(person)),
    authorizationCode: (person) => run(sandbox.authorizationCode(person)),
    expire: toUser(sandbox.expireAccessTokens),
    revoke: toUser(sandbox.revokeRefreshTokens),
    deleteUser: toUser(sandbox.deleteUser),
    inject: (fault) => now(sandbox.inject(fault)),
    clearFaults: () => now(sandbox.clearFaults),
    turn: (switches) => now(Ref.update(sandbox.switches, (before) => ({ ...before, ...switches }))),
    calls: () => now(sandbox.calls),
    count: (kind, calUserId) => now(sandbox.count(kind, calUserId)),
    resetCalls: () => now(sandbox.resetCalls),
    close: async () => {
      const release = KeepAlive.hold()
      await runtime.dispose().finally(release)
    }
  }
}

/** Whether it is a number or an address, and no ULID of the caller's own. */
const isCals = (name: string) => name.includes("@") || /^\d{1,16}$/.test(name)

const noSuchUser = new InvalidInput({
  field: "user",
  expected: "must be Cal.com's number of a user of this sandbox, or the address that they were made with"
})

/** In tests that are JavaScript nobody has checked it. */
const kindOf = (kind: LocalPerson["kind"] = "managed"): Effect.Effect<typeof kind, InvalidInput> =>
  ["managed", "oauth2"].includes(kind)
    ? Effect.succeed(kind)
    : new InvalidInput({ field: "kind", expected: 'must be "managed" or "oauth2"' })

const fromExit = <A, E>(exit: Exit.Exit<A, E>): A => {
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}
