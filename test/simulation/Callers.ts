/** What callers do at a node, and what may be said of the answers they get. */
import { Cause, Effect, Exit } from "effect"
import type * as CalTokens from "../../src/CalTokens.js"
import type { Connection, UserUlid } from "../../src/Token.js"
import type { ConnectError, ReadError, TokenError } from "../../src/TokenError.js"
import type { Authorised, Cal } from "./Cal.js"
import type { CallerOp } from "./Plan.js"
import { managedClientId, oauth2ClientId } from "./ShortCal.js"
import { type Node, statementTimeout, type World } from "./World.js"

/** Somebody whose tokens the fleet keeps. */
export interface User {
  readonly index: number
  readonly userUlid: UserUlid
  /** Of the account that is stored, as far as anybody knows, and since when it is that. */
  kind: "managed" | "oauth2"
  movedAt: number
  /** The Cal.com account, and all that it ever had or may have. */
  account: number
  readonly accounts: Set<number>
  /** Accounts of which Cal.com itself ended the grant: a person has to help. */
  readonly revoked: Set<number>
  /** What the second system has had of them, the latest last. */
  readonly elsewhere: Array<Authorised & { readonly connection: Connection }>
}

export type Outcome =
  | { readonly _tag: "Token"; readonly token: CalTokens.ValidToken }
  | { readonly _tag: "Status"; readonly status: number }
  | { readonly _tag: "Row"; readonly outcome: string }
  | { readonly _tag: "Done" }

export const connectionOf = (user: Pick<User, "account" | "kind">): Connection =>
  user.kind === "managed"
    ? { _tag: "ManagedUser", clientId: managedClientId, calUserId: user.account }
    : { _tag: "OAuth2", clientId: oauth2ClientId, calUserId: user.account }

const pairInput = (authorised: Authorised) => ({
  accessToken: authorised.accessToken,
  refreshToken: authorised.refreshToken,
  accessTokenExpiresAt: authorised.expiresAt
})

export interface Site {
  readonly world: World
  readonly cal: Cal
}

/** The effect of one call. */
export const call = (site: Site, node: Node, user: User, op: CallerOp): Effect.Effect<Outcome, TokenError> => {
  const { api, tokens } = node
  if (tokens === undefined || api === undefined) return Effect.never
  const { userUlid } = user
  const token = Effect.map((token: CalTokens.ValidToken): Outcome => ({ _tag: "Token", token }))
  const done = Effect.as<Outcome>({ _tag: "Done" })
  switch (op) {
    case "ensure":
      return token(tokens.ensureValid(userUlid))
    case "force":
      return token(tokens.ensureValid(userUlid, { forceRefresh: true }))
    case "reissue":
      return token(tokens.refresh(userUlid, { reissue: true }))
    case "info":
      return done(tokens.info(userUlid))
    case "sweep":
      return done(tokens.refreshDue(8))
    case "disconnect":
      return done(tokens.disconnect(userUlid))
    case "api":
      return Effect.map(
        // A URL of its own tells one request from another.
        api.send(userUlid, { method: "GET", path: `/me?n=${site.world.next()}` }),
        ({ status }): Outcome => ({ _tag: "Status", status })
      )
    case "import":
    case "importOlder":
      return Effect.suspend(() => {
        // Whoever exports has what was there at that moment, or an older copy.
        const pair = user.elsewhere.at(op === "import" ? -1 : -2) ?? user.elsewhere.at(-1)
        if (pair === undefined) return Effect.succeed<Outcome>({ _tag: "Done" })
        const { connection } = pair
        return tokens.importConnections([{ userUlid, connection, tokens: pairInput(pair) }]).pipe(
          Effect.retry({ times: 4, while: (error) => error._tag === "StorageUnavailable" }),
          Effect.map(([row]): Outcome => ({ _tag: "Row", outcome: row?.outcome ?? "nothing" }))
        )
      })
    case "connect":
    case "moveToManaged":
    case "moveToOAuth2":
    case "update":
      return Effect.suspend(() => {
        const { cal, world } = site
        const kind = op === "moveToManaged" ? "managed" : op === "moveToOAuth2" ? "oauth2" : user.kind
        const account = op === "connect" || op === "update" ? user.account : cal.createAccount(kind)
        user.accounts.add(account)
        if (!cal.hasAccount(account)) return Effect.succeed<Outcome>({ _tag: "Done" })
        const authorised = cal.authorise(account)
        // It is the caller's until it is stored.
        authorised.grant.holder = node.process
        const input = pairInput(authorised)
        const store: Effect.Effect<unknown, ConnectError | ReadError> =
          op === "update"
            ? tokens.update(userUlid, input)
            : tokens.connect(userUlid, connectionOf({ account, kind }), input)
        // Whoever hands in a pair tries again a few times: it exists nowhere else.
        return done(
          store.pipe(
            Effect.retry({ times: 4, while: (error) => error._tag === "StorageUnavailable" }),
            Effect.onExit((exit) =>
              Effect.sync(() => {
                if (Exit.isFailure(exit)) world.oracle.lost(authorised.grant, "whoever had it could not hand it in")
              })
            )
          )
        )
      })
  }
}

/** How long a call may take, in milliseconds of a node that is awake. */
export const patience = (op: CallerOp, callerWait: number): number => {
  const reads = 3 * statementTimeout
  switch (op) {
    case "ensure":
    case "force":
    case "reissue":
      return callerWait + reads
    case "api":
      return 2 * callerWait + 2 * reads + 10_000
    case "connect":
    case "moveToManaged":
    case "moveToOAuth2":
    case "update":
    case "import":
    case "importOlder":
      return 5 * (2 * statementTimeout + reads)
    case "disconnect":
    case "info":
      return reads
    case "sweep":
      // Two clients, and leases that are given back.
      return 2 * reads
  }
}

export const describe = (exit: Exit.Exit<Outcome, TokenError>): string => {
  if (Exit.isFailure(exit)) {
    if (Cause.isInterruptedOnly(exit.cause)) return "interrupted"
    const failure = Cause.failureOption(exit.cause)
    return failure._tag === "Some" ? failure.value._tag : `defect ${Cause.pretty(exit.cause)}`
  }
  switch (exit.value._tag) {
    case "Token":
      return `a token${exit.value.token.refreshed ? ", refreshed" : ""}`
    case "Status":
      return `status ${exit.value.status}`
    case "Row":
      return exit.value.outcome
    case "Done":
      return "done"
  }
}
