/** Which Cal.com account a user is connected to, and in what state that connection is. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import * as History from "../History.js"
import type { ReauthorizationCause } from "../TokenError.js"
import { Manage } from "./Access.js"
import { ConnectFailure, QueryFailure, ReadFailure, TokensNotFound } from "./Failure.js"
import { ClientId, Done, exampleUlid, Instant, InstantInput, pageSize, Success, UserUlidInput } from "./Values.js"

/**
 * How a user is connected: as a managed user, or through OAuth2.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Kind = Schema.Literal("managed", "oauth2")
export type Kind = typeof Kind.Type

/**
 * Whether the user has to connect again.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ConnectionStatus = Schema.Literal("active", "reauthorizationRequired")
export type ConnectionStatus = typeof ConnectionStatus.Type

const causes = ["revoked", "rotationLost", "calUserGone"] as const satisfies ReadonlyArray<ReauthorizationCause>

const Token = Schema.Redacted(
  Schema.String.annotations({
    description: "1 to 8192 printable characters without spaces.",
    jsonSchema: { type: "string", minLength: 1, maxLength: 8192 }
  })
)

export const PutConnection = Schema.Struct({
  kind: Kind,
  clientId: Schema.optional(ClientId),
  calUserId: Schema.optional(
    Schema.Number.annotations({
      description: "The user at Cal.com, a positive whole number; required for managed users."
    })
  ),
  accessToken: Token,
  refreshToken: Token,
  accessTokenExpiresAt: InstantInput,
  refreshTokenExpiresAt: Schema.optional(InstantInput),
  scope: Schema.optional(
    Schema.String.annotations({
      description: "OAuth2: the scopes that were granted.",
      jsonSchema: { type: "string", maxLength: 2048 }
    })
  )
})

/** How many connections are taken over at once. */
const maxImports = 500

export const ConnectionToImport = Schema.Struct({ userUlid: UserUlidInput, ...PutConnection.fields }).annotations({
  identifier: "ConnectionToImport"
})

const ImportConnections = Schema.Struct({
  connections: Schema.Array(ConnectionToImport).pipe(
    Schema.maxItems(maxImports),
    Schema.annotations({ description: "Each is looked at by itself: one that is refused keeps no other back." })
  )
})

/**
 * What became of a connection that was to be taken over.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ImportedConnection = Schema.Struct({
  userUlid: Schema.optional(
    Schema.String.annotations({ description: "The ULID of your user; absent where what was given names none." })
  ),
  outcome: Schema.Literal("imported", "updated", "unchanged", "refreshedHere", "rejected").annotations({
    description:
      "`unchanged`: this pair, or a newer one, is there already. `refreshedHere`: this service refreshed the user since, or " +
      "the user connected otherwise, and is left alone. `rejected`: nothing was stored, see `reason`."
  }),
  reason: Schema.optional(Schema.String.annotations({ description: "Why it is rejected, for people. Never a token." }))
}).annotations({ identifier: "ImportedConnection" })
export type ImportedConnection = typeof ImportedConnection.Type

const ConnectionsImported = Schema.Struct({
  success: Success,
  results: Schema.Array(ImportedConnection).annotations({ description: "In the order of the connections." })
})

const account = {
  kind: Kind,
  clientId: Schema.String.annotations({ description: "The client at Cal.com that the user is connected through." }),
  status: ConnectionStatus,
  cause: Schema.optional(
    Schema.Literal(...causes).annotations({
      description:
        "Why the user has to reconnect: Cal.com refuses the refresh token, its answer with the new one was lost, or " +
        "the managed user is gone there."
    })
  ),
  since: Schema.optional(Instant),
  hint: Schema.optional(
    Schema.String.annotations({
      description: "What probably became of a user who has to reconnect, for people; absent where that does not show."
    })
  ),
  calUserId: Schema.NullOr(Schema.Int).annotations({ description: "The user at Cal.com, where that is known." }),
  scope: Schema.optional(
    Schema.String.annotations({ description: "OAuth2: the scopes that were granted, where that is known." })
  ),
  isExpired: Schema.Boolean
}

const expiries = {
  accessTokenExpiresAt: Instant,
  refreshTokenExpiresAt: Schema.NullOr(Instant),
  version: Schema.Number.annotations({ description: "Grows with every stored pair." }),
  updatedAt: Instant
}

/**
 * What may be told about a connection: no tokens.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Connection = Schema.Struct({
  ...account,
  isExpiringSoon: Schema.Boolean.annotations({ description: "Expired, or inside the window before that." }),
  ...expiries
}).annotations({ identifier: "Connection" })
export type Connection = typeof Connection.Type

/**
 * A connection in a list.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ListedConnection = Schema.Struct({ userUlid: Schema.String, ...account, ...expiries }).annotations({
  identifier: "ListedConnection"
})
export type ListedConnection = typeof ListedConnection.Type

/**
 * What happened to a user's tokens at an instant.
 *
 * @since 0.1.0
 * @category schemas
 */
export const HistoryEntry = Schema.Struct({
  at: Instant,
  text: Schema.String.annotations({ description: "The same, for people." }),
  written: History.Written,
  event: History.Event
}).annotations({ identifier: "HistoryEntry" })
export type HistoryEntry = typeof HistoryEntry.Type

/**
 * How a user's connection stands, and how it came to that. Tokens are named by the first eight digits of their SHA-256.
 *
 * @since 0.1.0
 * @category schemas
 */
export const ConnectionHistory = Schema.Struct({
  status: ConnectionStatus,
  cause: Schema.optional(
    History.Cause.annotations({ description: "Why the user has to reconnect, as far as there is evidence." })
  ),
  conclusion: Schema.String.annotations({ description: "How it stands and why, for people." }),
  advice: Schema.String.annotations({ description: "What to do, for people." }),
  open: Schema.optional(
    Schema.Struct({
      text: Schema.String,
      process: Schema.optional(Schema.String),
      startedAt: Instant,
      leaseUntil: Instant,
      token: Schema.optional(Schema.String)
    }).annotations({ description: "A refresh that is under way, or whose process is gone if its lease is over." })
  ),
  circuit: Schema.optional(
    Schema.Struct({
      cause: Schema.Literal("client", "brake", "drift"),
      reason: Schema.String.annotations({ description: "For people." }),
      openedAt: Instant,
      nextTrialAt: Instant
    }).annotations({
      description: "The circuit of the user's client, while it is open: nobody of it is refreshed but for trials."
    })
  ),
  entries: Schema.Array(HistoryEntry).annotations({
    description: `The latest first, at most ${History.maxEntries}, of 30 days.`
  })
}).annotations({ identifier: "ConnectionHistory" })
export type ConnectionHistory = typeof ConnectionHistory.Type

const HistoryFound = Schema.Struct({ success: Success, history: ConnectionHistory })

const ConnectionFound = Schema.Struct({ success: Success, connection: Connection })

const PageSize = Schema.NumberFromString.pipe(
  Schema.filter((size) => Number.isInteger(size) && size >= 1 && size <= pageSize.maximum, {
    message: () => ({ message: `must be a whole number from 1 to ${pageSize.maximum}`, override: true }),
    jsonSchema: { type: "integer", minimum: 1, maximum: pageSize.maximum, default: pageSize.default }
  })
)

const CalUserId = Schema.NumberFromString.pipe(
  Schema.filter((id) => Number.isSafeInteger(id) && id >= 1, {
    message: () => ({ message: "must be the number of a user at Cal.com", override: true }),
    jsonSchema: { type: "integer", minimum: 1 }
  }),
  Schema.annotations({ description: "Only connections to this user at Cal.com, whichever client they are through." })
)

const oneOf = (values: ReadonlyArray<string>) => ({ message: `must be one of ${values.join(", ")}`, override: true })

const ListConnections = Schema.Struct({
  status: Schema.optional(
    ConnectionStatus.annotations({
      message: () => oneOf(ConnectionStatus.literals),
      description: "Only connections in this state."
    })
  ),
  calUserId: Schema.optional(CalUserId),
  order: Schema.optional(
    Schema.Literal("since").annotations({
      message: () => oneOf(["since"]),
      description: "`since`: those who have to reconnect, the latest first. By default all, by their users' ULIDs."
    })
  ),
  cursor: Schema.optional(
    Schema.String.annotations({
      message: () => ({ message: "must be the cursor of the page before", override: true }),
      description: "The `cursor` of the page before.",
      examples: [exampleUlid]
    })
  ),
  limit: Schema.optional(PageSize)
})

const ConnectionsPage = Schema.Struct({
  success: Success,
  connections: Schema.Array(ListedConnection),
  cursor: Schema.optional(Schema.String.annotations({ description: "Asks for the next page; absent on the last one." }))
})

const path = Schema.Struct({ userUlid: UserUlidInput })

/**
 * Connections: one, all of them, a new one, the end of one.
 *
 * @since 0.1.0
 * @category api
 */
export class ConnectionsApi extends HttpApiGroup.make("connections")
  .add(
    HttpApiEndpoint.get("getConnection", "/connections/:userUlid")
      .setPath(path)
      .addSuccess(ConnectionFound)
      .addError(ReadFailure)
      .annotate(OpenApi.Summary, "Look at a connection")
      .annotate(OpenApi.Description, "What is known about a user's connection. No tokens.")
  )
  .add(
    HttpApiEndpoint.get("getHistory", "/history/:userUlid")
      .setPath(path)
      .addSuccess(HistoryFound)
      .addError(QueryFailure)
      .addError(TokensNotFound)
      .annotate(OpenApi.Summary, "Explain a connection")
      .annotate(
        OpenApi.Description,
        "What happened to a user's tokens: which process spent which, what Cal.com answered, what was written, and why a " +
          "reconnect is needed. No tokens; it ends when the user is disconnected."
      )
  )
  .add(
    HttpApiEndpoint.put("putConnection", "/connections/:userUlid")
      .setPath(path)
      .setPayload(PutConnection)
      .addSuccess(Done)
      .addError(ConnectFailure)
      .annotate(OpenApi.Summary, "Connect a user with tokens that you have")
      .annotate(OpenApi.Description, "Stores the tokens of a user that is connected, or reconnected, elsewhere.")
  )
  .add(
    HttpApiEndpoint.put("importConnections", "/connections")
      .setPayload(ImportConnections)
      .addSuccess(ConnectionsImported)
      .addError(QueryFailure)
      .annotate(OpenApi.Summary, "Take over the connections of another system")
      .annotate(
        OpenApi.Description,
        `Stores the tokens of up to ${maxImports} users, each with an answer of its own. May be repeated while the other ` +
          "system still runs: users whom this service has refreshed since are left alone."
      )
  )
  .add(
    HttpApiEndpoint.del("deleteConnection", "/connections/:userUlid")
      .setPath(path)
      .addSuccess(Done)
      .addError(QueryFailure)
      .addError(TokensNotFound)
      .annotate(OpenApi.Summary, "Disconnect a user")
      .annotate(OpenApi.Description, "Forgets a user's connection with its tokens. Nothing changes at Cal.com.")
  )
  .add(
    HttpApiEndpoint.get("listConnections", "/connections")
      .setUrlParams(ListConnections)
      .addSuccess(ConnectionsPage)
      .addError(QueryFailure)
      .annotate(OpenApi.Summary, "List connections")
      .annotate(
        OpenApi.Description,
        "A page of connections, in the order of their users' ULIDs, or of those who have to reconnect, the latest first. No tokens."
      )
  )
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "Which Cal.com account a user is connected to, and in what state that is.") {}
