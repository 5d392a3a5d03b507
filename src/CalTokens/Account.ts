/** Which Cal.com account a pair from outside belongs to. */
import { Effect, Option } from "effect"
import type { CalClient } from "../CalClient.js"
import type { Connection } from "../Token.js"
import { InvalidInput } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"

/**
 * A connection as `connect` takes it; the client is one of those that are configured, the usual one without a name.
 *
 * @since 0.1.0
 * @category models
 */
export type NewConnection =
  | { readonly _tag: "ManagedUser"; readonly clientId?: string | undefined; readonly calUserId: number }
  | {
      readonly _tag: "OAuth2"
      readonly clientId?: string | undefined
      readonly calUserId?: number | undefined
      readonly scope?: string | undefined
    }

/** A token that names another Cal.com user than the connection does would hand one person's calendar to another. */
export const sameCalUser = (expected: number | undefined, named: Option.Option<number>) =>
  expected !== undefined && Option.isSome(named) && named.value !== expected
    ? Effect.fail(
        new InvalidInput({ field: "calUserId", expected: "must be the Cal.com user that the access token names" })
      )
    : Effect.void

/** The connection that a caller wants, with what configuration and token add to it. `named`: the user the token names. */
export const resolve = (
  client: typeof CalClient.Service,
  wanted: NewConnection,
  named: Option.Option<number>
): Effect.Effect<Connection, InvalidInput> =>
  Effect.gen(function* () {
    const isManaged = wanted._tag === "ManagedUser"
    const chosen = yield* isManaged
      ? client.clients.managed.choose(wanted.clientId)
      : client.clients.oauth2.choose(wanted.clientId)
    if (Option.isNone(chosen)) {
      const needed = isManaged ? "a platform client" : "an OAuth2 client"
      return yield* Effect.fail(
        new InvalidInput({ field: "kind", expected: `needs ${needed}, and none is configured` })
      )
    }
    const { clientId } = chosen.value
    // Plain JavaScript and JSON say null for what there is not.
    const given = wanted.calUserId ?? undefined
    if (given !== undefined) yield* TokenInput.calUserId(given)
    yield* sameCalUser(given, named)
    if (isManaged) return { _tag: "ManagedUser", clientId, calUserId: yield* TokenInput.calUserId(given) }
    const calUserId = given ?? Option.getOrUndefined(named)
    return {
      _tag: "OAuth2",
      clientId,
      ...(calUserId === undefined ? {} : { calUserId }),
      ...((wanted.scope ?? undefined) === undefined ? {} : { scope: yield* TokenInput.scope(wanted.scope) })
    }
  })
