/**
 * Creating managed users: at Cal.com and here, in one call that may be repeated. What a crash between Cal.com's answer
 * and our write leaves behind, an account whose tokens nobody has, is taken up by the next call.
 */
import { randomBytes } from "node:crypto"
import { Context, Effect, Layer, Option, type Scope } from "effect"
import { CalClient, type NewManagedUser } from "./CalClient.js"
import { CalTokens, type OnStored } from "./CalTokens.js"
import * as Deadline from "./Fibers/Deadline.js"
import * as SingleFlight from "./Fibers/SingleFlight.js"
import * as Owned from "./Fibers/Owned.js"
import type { UserUlid } from "./Token.js"
import { TokenConfig } from "./TokenConfig.js"
import {
  CalClientMisconfigured,
  CalUnavailable,
  type ConnectError,
  type EnsureError,
  InvalidInput,
  noClient,
  NotManagedUser
} from "./TokenError.js"
import { TokenStorage } from "./TokenStorage.js"

/**
 * What `create` may fail with.
 *
 * @since 0.1.0
 * @category models
 */
export type CreateError = ConnectError | EnsureError | NotManagedUser

/**
 * A user's account at Cal.com.
 *
 * @since 0.1.0
 * @category models
 */
export interface Account {
  readonly clientId: string
  readonly calUserId: number
  /** How this call came by it: it was connected before, was created, or existed at Cal.com and was given new tokens. */
  readonly origin: "connected" | "created" | "recovered"
}

/**
 * Creates users at Cal.com and connects them.
 *
 * @since 0.1.0
 * @category tags
 */
export class ManagedUsers extends Context.Tag("cal-tokens/ManagedUsers")<
  ManagedUsers,
  {
    /**
     * Creates a managed user of the client that is named, or meant without a name, and connects it. A user who is connected
     * already is answered without a call; calls for one user at the same time share one. Fails with `NotManagedUser` for a user who is connected through OAuth2, and with
     * `CalAccountInUse` when Cal.com knows the e-mail address as an account that another user is connected to; with
     * `InvalidInput` for a user of another client than the one that is named. `onStored` is told when a new connection is
     * stored, whatever this answers then.
     */
    readonly create: (
      userUlid: UserUlid,
      user: NewManagedUser,
      options?: { readonly clientId?: string | undefined; readonly onStored?: OnStored | undefined }
    ) => Effect.Effect<Account, CreateError>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<
  Context.Tag.Service<ManagedUsers>,
  never,
  CalClient | CalTokens | TokenStorage | Scope.Scope
> = Effect.gen(function* () {
  const client = yield* CalClient
  const tokens = yield* CalTokens
  const storage = yield* TokenStorage
  const { callTimeout, shutdownWait } = yield* TokenConfig
  const deadline = yield* Deadline.make()
  const owned = yield* Owned.make({ shutdownWait, onAbandoned: () => Effect.void })
  const flights = SingleFlight.make<Account, CreateError>({ deadline, owned })

  /** The account that the user has and that serves. From the storage: another process may have connected it just now. */
  const connected = (userUlid: UserUlid) =>
    Effect.gen(function* () {
      const row = yield* storage.find(userUlid)
      if (Option.isNone(row)) return Option.none<Account>()
      const { connection, status } = row.value
      if (connection._tag === "OAuth2") return yield* new NotManagedUser({ userUlid })
      // One whom Cal.com refuses for good is connected anew.
      return status._tag === "Active"
        ? Option.some<Account>({
            clientId: connection.clientId,
            calUserId: connection.calUserId,
            origin: "connected"
          })
        : Option.none<Account>()
    })

  const meant = (named: string | undefined) =>
    Effect.flatMap(
      client.clients.managed.choose(named),
      Option.match({
        onNone: () =>
          Effect.fail(new CalClientMisconfigured({ clientId: noClient, reason: "no platform client is configured" })),
        onSome: ({ clientId }) => Effect.succeed(clientId)
      })
    )

  const ask = (user: NewManagedUser, clientId: string) =>
    client.createManagedUser(user, clientId).pipe(
      Effect.timeoutFail({
        duration: callTimeout,
        onTimeout: () => new CalUnavailable({ operation: "createManagedUser", reason: "timeout" })
      })
    )

  /**
   * Takes up an account that exists at Cal.com. The user is connected to it first, with a pair that is expired and no
   * token of Cal.com's: the storage refuses an account of somebody else before anything happens to its tokens, and from
   * then on the refresh protocol gets a pair by itself, whatever becomes of this call.
   */
  const takeUp = (userUlid: UserUlid, account: Omit<Account, "origin">, onStored: OnStored) =>
    Effect.gen(function* () {
      const placeholder = () => `none-${randomBytes(32).toString("base64url")}`
      yield* tokens.connect(
        userUlid,
        { _tag: "ManagedUser", ...account },
        {
          accessToken: placeholder(),
          refreshToken: placeholder(),
          accessTokenExpiresAt: (yield* client.now) - 1000
        }
      )
      yield* onStored(Option.none())
      yield* tokens.refresh(userUlid, { reissue: true })
      return { ...account, origin: "recovered" } as const
    })

  const create = (
    userUlid: UserUlid,
    user: NewManagedUser,
    named: string | undefined,
    onStored: OnStored
  ): Effect.Effect<Account, CreateError> =>
    Effect.gen(function* () {
      const before = yield* connected(userUlid)
      if (Option.isSome(before)) return before.value
      const clientId = yield* meant(named)
      const answer = yield* ask(user, clientId)
      // While Cal.com answered, another process may have connected the user.
      const meanwhile = yield* connected(userUlid)
      if (Option.isSome(meanwhile)) {
        if (meanwhile.value.calUserId === answer.calUserId) return meanwhile.value
        yield* Effect.logWarning("A managed user was created twice; one of the accounts is left over at Cal.com").pipe(
          Effect.annotateLogs({ userUlid, leftOver: answer.calUserId })
        )
        return meanwhile.value
      }
      const account = { clientId, calUserId: answer.calUserId }
      if (answer._tag === "Exists") return yield* takeUp(userUlid, account, onStored)
      const connection = { _tag: "ManagedUser", ...account } as const
      yield* tokens.connectWith(userUlid, Effect.succeed({ connection, pair: answer.pair }), { onStored })
      return { ...account, origin: "created" }
    })

  return ManagedUsers.of({
    create: Effect.fn("ManagedUsers.create")(function* (
      userUlid,
      user,
      { clientId, onStored = () => Effect.void } = {}
    ) {
      const account = yield* flights.share(userUlid, create(userUlid, user, clientId, onStored))
      // It may be one of before, or of a call for another client that came first.
      if (clientId === undefined || account.clientId === clientId) return account
      return yield* new InvalidInput({ field: "clientId", expected: "is not that of the account the user has" })
    })
  })
})

/**
 * With fibers of its own: whoever gives up leaves nobody half created.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ManagedUsers, never, CalClient | CalTokens | TokenStorage> = Layer.scoped(
  ManagedUsers,
  make
)
