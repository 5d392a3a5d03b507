/** What callers do at a node, and what may be said of the answers they get. */
import { Cause, Effect, Exit, Redacted } from "effect"
import type * as CalTokens from "../../src/CalTokens.js"
import type { Connection, UserUlid } from "../../src/Token.js"
import type { TokenError } from "../../src/TokenError.js"
import type { Authorised, Cal } from "./Cal.js"
import type { CallerOp } from "./Plan.js"
import { managedClientId, oauth2ClientId, dated, skewOf } from "./ShortCal.js"
import { type Node, statementTimeout, type World } from "./World.js"

/** Somebody whose tokens the fleet keeps. */
export interface User {
  readonly index: number
  readonly userUlid: UserUlid
  readonly kind: "managed" | "oauth2"
  /** The Cal.com account, and those it had before. */
  account: number
  readonly accounts: Set<number>
  /** Cal.com itself ended the grant: a person has to help. */
  isRevoked: boolean
}

export type Outcome =
  | { readonly _tag: "Token"; readonly token: CalTokens.ValidToken }
  | { readonly _tag: "Status"; readonly status: number }
  | { readonly _tag: "Done" }

export const connectionOf = (user: User): Connection =>
  user.kind === "managed"
    ? { _tag: "ManagedUser", clientId: managedClientId, calUserId: user.account }
    : { _tag: "OAuth2", clientId: oauth2ClientId, calUserId: user.account }

export const pairInput = (authorised: Authorised) => ({
  accessToken: authorised.accessToken,
  refreshToken: authorised.refreshToken,
  accessTokenExpiresAt: authorised.expiresAt
})

/** An API request with its token: what Cal.com answers, after a while. */
const request = (world: World, node: Node, cal: Cal, token: Redacted.Redacted): Effect.Effect<number> =>
  Effect.async<number>((resume) => {
    const process = node.process
    if (process === undefined) return
    world.driver.after(world.delay(world.plan.latency.cal), world.server, () => {
      const status = world.isHappening("accessRefused") ? 401 : cal.api(Redacted.value(token))
      world.note("Cal.com", `answers a request of ${node.name} with ${status}`)
      world.driver.after(world.delay(world.plan.latency.cal), process, () => resume(Effect.succeed(status)))
    })
  })

export interface Site {
  readonly world: World
  readonly cal: Cal
}

/** An authenticated request as the rules have it: at most two sends. */
const api = (site: Site, node: Node, tokens: typeof CalTokens.CalTokens.Service, user: User) =>
  Effect.gen(function* () {
    const { world, cal } = site
    const first = yield* tokens.ensureValid(user.userUlid)
    const sentAt = world.driver.now + skewOf(world, node)
    const status = yield* request(world, node, cal, first.accessToken)
    node.clockError = Math.min(node.clockError, world.driver.now + skewOf(world, node) - sentAt)
    yield* node.observeDate(dated(world.driver.now), sentAt)
    if (status === 200) return status
    const advice = yield* tokens.reportRejected(user.userUlid, { accessToken: first.accessToken, status })
    if (status === 498) node.rejected.add(Redacted.value(first.accessToken))
    if (advice._tag === "GiveUp") return status
    const again = Redacted.value(advice.token.accessToken) === Redacted.value(first.accessToken)
    if (again && status === 498) world.oracle.report("P6", `${node.name} advises the very token that got 498`)
    yield* Effect.sleep(advice.delay)
    return yield* request(world, node, cal, advice.token.accessToken)
  })

/** The effect of one call. */
export const call = (site: Site, node: Node, user: User, op: CallerOp): Effect.Effect<Outcome, TokenError> => {
  const { tokens } = node
  if (tokens === undefined) return Effect.never
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
    case "disconnect":
      return done(tokens.disconnect(userUlid))
    case "api":
      return Effect.map(api(site, node, tokens, user), (status): Outcome => ({ _tag: "Status", status }))
    case "connect":
    case "update":
      return Effect.suspend(() => {
        const { cal, world } = site
        if (!cal.hasAccount(user.account)) return Effect.succeed<Outcome>({ _tag: "Done" })
        const authorised = cal.authorise(user.account)
        // It is the caller's until it is stored.
        authorised.grant.holder = node.process
        const input = pairInput(authorised)
        const store =
          op === "connect" ? tokens.connect(userUlid, connectionOf(user), input) : tokens.update(userUlid, input)
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
    case "update":
      return 5 * (2 * statementTimeout + reads)
    case "disconnect":
    case "info":
      return reads
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
    case "Done":
      return "done"
  }
}
