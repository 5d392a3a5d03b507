/** The endpoints of `Api/Connections`. */
import { DateTime, Effect, Option, Struct } from "effect"
import { type Connection, type ConnectionHistory, ConnectionToImport, type PutConnection } from "../Api/Connections.js"
import { pageSize } from "../Api/Values.js"
import { CalClient } from "../CalClient.js"
import { CalTokens, type ConnectionInfo, type ImportedRow, type NewConnection } from "../CalTokens.js"
import { eachOf } from "../CalTokens/Importing.js"
import { explain } from "../Explain.js"
import { InvalidInput, TokensNotFound } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import * as Shape from "../TokenInput/Shape.js"
import { type StoredHistory, TokenStorage } from "../TokenStorage.js"
import * as Listing from "../TokenStorage/Listing.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

/** What a connection looks like from outside. */
const describe = (info: ConnectionInfo): Connection => ({
  ...Listing.withInstants(Listing.standing(info, info.isExpired), DateTime.unsafeMake),
  isExpiringSoon: info.isExpiringSoon
})

/** The latest first. */
export const told = (history: StoredHistory): ConnectionHistory => {
  const { advice, cause, conclusion, sentences } = explain(history)
  const { circuit, entries, open } = history
  const now = sentences[entries.length]
  return {
    status: history.connection.status._tag === "Active" ? "active" : "reauthorizationRequired",
    ...(cause === undefined ? {} : { cause }),
    conclusion,
    advice,
    ...(open === undefined || now === undefined
      ? {}
      : {
          open: {
            text: now.text,
            ...open,
            startedAt: DateTime.unsafeMake(open.startedAt),
            leaseUntil: DateTime.unsafeMake(open.leaseUntil)
          }
        }),
    ...(circuit === undefined
      ? {}
      : {
          circuit: {
            ...Struct.pick(circuit, "cause", "reason"),
            openedAt: DateTime.unsafeMake(circuit.openedAt),
            nextTrialAt: DateTime.unsafeMake(circuit.trialAt)
          }
        }),
    entries: entries
      .map((entry, n) => ({ ...entry, at: DateTime.unsafeMake(entry.at), text: sentences[n]?.text ?? "" }))
      .reverse()
  }
}

const account = (input: typeof PutConnection.Type): Effect.Effect<NewConnection, InvalidInput> =>
  Effect.gen(function* () {
    const { clientId, kind, scope } = input
    const calUserId = input.calUserId === undefined ? undefined : yield* TokenInput.calUserId(input.calUserId)
    if (kind === "oauth2") return { _tag: "OAuth2", clientId, calUserId, scope }
    if (calUserId === undefined) {
      return yield* new InvalidInput({ field: "calUserId", expected: "is required for managed users" })
    }
    return { _tag: "ManagedUser", clientId, calUserId }
  })

const toRow = Shape.object(ConnectionToImport, { whole: "connection", expected: "must be a JSON object" })

/** An item of the list, looked at as the body of a single one is. */
const rowOf = (item: unknown) =>
  Effect.gen(function* () {
    const input = yield* toRow(item)
    return { userUlid: input.userUlid, connection: yield* account(input), tokens: input }
  })

const eventsOf = (results: ReadonlyArray<ImportedRow>) =>
  results.flatMap((result) =>
    result.outcome === "imported" || result.outcome === "updated"
      ? [[Audit.connected(result.outcome === "updated"), result.userUlid] as const]
      : []
  )

const done = { success: true } as const

export const layer = Group.make("connections", (handlers) =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const storage = yield* TokenStorage
    const client = yield* CalClient
    return handlers
      .handleRaw(
        "getConnection",
        Edge.endpoint("getConnection", (_, userUlid) =>
          Effect.map(tokens.info(userUlid), (info) => ({ success: true as const, connection: describe(info) }))
        )
      )
      .handleRaw(
        "getHistory",
        Edge.endpoint("getHistory", (_, userUlid) =>
          Effect.flatMap(
            storage.history(userUlid),
            Option.match({
              onNone: () => Effect.fail(new TokensNotFound({ userUlid })),
              onSome: (history) => Effect.succeed({ success: true as const, history: told(history) })
            })
          )
        )
      )
      .handleRaw(
        "putConnection",
        Edge.endpoint("putConnection", (input, userUlid) =>
          Effect.gen(function* () {
            const connect = tokens.connect(userUlid, yield* account(input), input)
            yield* Audit.changing(userUlid, connect, Audit.connected)
            return done
          })
        )
      )
      .handleRaw(
        "importConnections",
        Edge.items("importConnections", "connections", (items) =>
          Effect.map(
            Audit.changingMany(eachOf(items, rowOf, tokens.importConnections, "connections"), eventsOf),
            (results) => ({ success: true as const, results })
          )
        )
      )
      .handleRaw(
        "deleteConnection",
        Edge.endpoint("deleteConnection", (_, userUlid) =>
          Effect.as(
            Audit.changing(userUlid, tokens.disconnect(userUlid), () => "connection.deleted"),
            done
          )
        )
      )
      .handleRaw(
        "listConnections",
        Edge.endpoint("listConnections", ({ limit = pageSize.default, ...query }) =>
          Effect.map(
            Effect.provideService(Listing.page({ ...query, limit }, client.now), TokenStorage, storage),
            ({ connections, ...page }) => ({
              success: true as const,
              connections: connections.map((one) => ({
                ...Listing.withInstants(one, DateTime.unsafeMake),
                userUlid: one.userUlid
              })),
              ...page
            })
          )
        )
      )
  })
)
