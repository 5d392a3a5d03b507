/** Which Cal.com account a user is connected to, and in what state that connection is. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { ReauthorizationCause } from "../TokenError.js"
import { Manage } from "./Access.js"
import { OperationFailure } from "./Failure.js"
import { UserUlidInput } from "./Tokens.js"

/** An expiry as people hand it in: milliseconds since the epoch, or ISO 8601 with a zone. */
const InstantInput = Schema.Union(Schema.Number, Schema.String)

export const Kind = Schema.Literal("managed", "oauth2")
export type Kind = typeof Kind.Type

export const PutConnection = Schema.Struct({
  kind: Kind,
  /** Required for managed users. */
  calUserId: Schema.optional(Schema.Number),
  accessToken: Schema.Redacted(Schema.String),
  refreshToken: Schema.Redacted(Schema.String),
  accessTokenExpiresAt: InstantInput,
  refreshTokenExpiresAt: Schema.optional(InstantInput),
  scope: Schema.optional(Schema.String)
})

/** What may be told about a connection: no tokens. */
export const Connection = Schema.Struct({
  kind: Kind,
  status: Schema.Literal("active", "reauthorizationRequired"),
  /** Why the user has to reconnect. */
  cause: Schema.optional(ReauthorizationCause),
  /** Since when the user has to reconnect. */
  since: Schema.optional(Schema.DateTimeUtc),
  calUserId: Schema.NullOr(Schema.Int),
  isExpired: Schema.Boolean,
  isExpiringSoon: Schema.Boolean,
  accessTokenExpiresAt: Schema.DateTimeUtc,
  refreshTokenExpiresAt: Schema.NullOr(Schema.DateTimeUtc),
  version: Schema.Number,
  updatedAt: Schema.DateTimeUtc
})
export type Connection = typeof Connection.Type

export const ConnectionFound = Schema.Struct({ success: Schema.Literal(true), connection: Connection })

export const Done = Schema.Struct({ success: Schema.Literal(true) })

const path = Schema.Struct({ userUlid: UserUlidInput })

export class ConnectionsApi extends HttpApiGroup.make("connections")
  .add(
    HttpApiEndpoint.get("getConnection", "/connections/:userUlid")
      .setPath(path)
      .addSuccess(ConnectionFound)
      .annotate(OpenApi.Description, "What is known about a user's connection.")
  )
  .add(
    HttpApiEndpoint.put("putConnection", "/connections/:userUlid")
      .setPath(path)
      .setPayload(PutConnection)
      .addSuccess(Done)
      .annotate(OpenApi.Description, "Stores the tokens of a user that is connected, or reconnected, elsewhere.")
  )
  .add(
    HttpApiEndpoint.del("deleteConnection", "/connections/:userUlid")
      .setPath(path)
      .addSuccess(Done)
      .annotate(OpenApi.Description, "Forgets a user's connection with its tokens.")
  )
  .addError(OperationFailure)
  .middleware(Manage)
  .prefix("/api/cal") {}
