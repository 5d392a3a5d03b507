/**
 * Cal.com in short: refresh tokens are members of a set, an answer is a value. The rules are those of the sandbox, which
 * takes them from Cal.com's API v2: a managed refresh spends its token alone, an OAuth2 one every token of its user and
 * client, and there check and rotation are two steps; a reissue ends everything that was there.
 */
import { Headers } from "@effect/platform"
import { Duration, Effect, Either, Option, Redacted } from "effect"
import { CallFailure, type Grant as ClientGrant } from "../../src/CalClient.js"
import * as CalTime from "../../src/CalHttp/CalTime.js"
import { demoManaged, demoOAuth2 } from "../../src/Sandbox.js"
import { hash } from "../../src/Token.js"
import {
  CalClientMisconfigured,
  CalProtocolError,
  CalRateLimited,
  CalRequestRejected,
  CalUnavailable
} from "../../src/TokenError.js"
import * as Api from "./Api.js"
import { type Authorised, type Cal, exchange, watched } from "./Cal.js"
import type { CalFault } from "./Plan.js"
import type { Grant } from "./Oracle.js"
import type { Node, World } from "./World.js"

export const managedClientId = demoManaged.clientId
export const oauth2ClientId = demoOAuth2.clientId

interface Account {
  readonly kind: "managed" | "oauth2"
  readonly refresh: Set<string>
  /** Access tokens with their expiries. */
  readonly access: Map<string, number>
}

export const make = (world: World, patience: number): Cal => {
  const { driver, oracle, plan } = world
  const accounts = new Map<number, Account>()
  const owners = new Map<string, number>()
  let secretRejected = false
  let lastAccount = 1000
  let lastToken = 0

  const issue = (account: number, { access, kind, refresh }: Account): Grant => {
    const { now } = driver
    const expiresAt = now + plan.lifetime
    const claims = { iat: Math.floor(now / 1000), userId: account, jti: ++lastToken }
    const accessToken = `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.a`
    const refreshToken = `refresh-${lastToken}`
    access.set(accessToken, kind === "managed" ? expiresAt : claims.iat * 1000 + plan.lifetime)
    refresh.add(refreshToken)
    owners.set(refreshToken, account)
    owners.set(accessToken, account)
    const grant = oracle.granted({
      refreshToken,
      accessToken,
      hash: hash(Redacted.make(refreshToken)),
      account,
      expiresAt: access.get(accessToken) ?? expiresAt
    })
    world.note("Cal.com", `grants ${grant.name}`)
    return grant
  }

  const rotate = (account: number, record: Account, token: string): Grant | undefined => {
    if (record.kind === "managed") {
      if (!record.refresh.delete(token)) return undefined
      for (const other of accounts.values()) {
        if (other.kind !== "managed") continue
        for (const [access, expiresAt] of other.access) if (expiresAt <= driver.now) other.access.delete(access)
      }
    } else record.refresh.clear()
    return issue(account, record)
  }

  const reissue = (account: number, record: Account): Grant => {
    record.refresh.clear()
    record.access.clear()
    return issue(account, record)
  }

  const misconfigured = CallFailure.ClientWide({
    error: new CalClientMisconfigured({ clientId: managedClientId, reason: "status 401" })
  })
  const unavailable = (reason: string, status?: number) =>
    new CalUnavailable({ operation: "refresh", reason, ...(status === undefined ? {} : { status }) })
  const rejected = CallFailure.Rejected({
    error: new CalRequestRejected({ operation: "refresh", status: 400, reason: "Invalid refresh token" })
  })
  const gone = CallFailure.UserGone({
    error: new CalRequestRejected({
      operation: "reissue",
      status: 404,
      reason: "User is not part of this OAuth client"
    })
  })

  /** What the caller hears instead of the answer; and whether Cal.com did its work nevertheless. */
  const instead = (
    fault: CalFault | undefined
  ): { readonly failure: CallFailure; readonly commits: boolean } | undefined => {
    switch (fault) {
      case "status429":
        return {
          failure: CallFailure.NotSpent({
            error: new CalRateLimited({ operation: "refresh", retryAfter: Duration.seconds(7) })
          }),
          commits: false
        }
      case "status500":
      case "status503":
        return { failure: CallFailure.Unknown({ error: unavailable("status", 503) }), commits: false }
      case "status500Committed":
        return { failure: CallFailure.Unknown({ error: unavailable("status", 500) }), commits: true }
      case "garbage":
        return {
          failure: CallFailure.Unknown({ error: new CalProtocolError({ operation: "refresh", issue: "not JSON" }) }),
          commits: true
        }
      case "truncated":
        return { failure: CallFailure.Unknown({ error: unavailable("the answer broke off", 200) }), commits: true }
      case undefined:
      case "refused":
      case "dropBefore":
      case "dropAfter":
      case "silentBefore":
      case "silentAfter":
      case "slowBefore":
      case "slowAfter":
        return undefined
    }
  }

  type Answer = (result: Either.Either<Grant, CallFailure>) => void

  /** One request at Cal.com, from its arrival on. */
  const answerRefresh = (token: string, answer: Answer) => {
    if (secretRejected) return answer(Either.left(misconfigured))
    const account = owners.get(token) ?? 0
    const record = accounts.get(account)
    if (record === undefined || !record.refresh.has(token)) return answer(Either.left(rejected))
    const finish = () => {
      if (accounts.get(account) !== record) return answer(Either.left(rejected))
      const grant = rotate(account, record, token)
      answer(grant === undefined ? Either.left(rejected) : Either.right(grant))
    }
    if (plan.raceWindow > 0) driver.after(plan.raceWindow, world.server, finish)
    else finish()
  }

  const answerReissue = (account: number, answer: Answer) => {
    if (secretRejected) return answer(Either.left(misconfigured))
    const record = accounts.get(account)
    answer(record === undefined ? Either.left(gone) : Either.right(reissue(account, record)))
  }

  const reset = Effect.fail(CallFailure.Unknown({ error: unavailable("connection reset") }))
  const refused = Effect.fail(CallFailure.NotSpent({ error: unavailable("connection refused") }))

  const authorise = (account: number): Authorised => {
    const record = accounts.get(account)
    if (record === undefined) throw new Error("no such account")
    const grant = record.kind === "managed" ? reissue(account, record) : issue(account, record)
    return { grant, accessToken: grant.accessToken, refreshToken: grant.refreshToken, expiresAt: grant.expiresAt }
  }

  const api = (token: string): number => {
    const record = accounts.get(owners.get(token) ?? 0)
    const expiresAt = record?.access.get(token)
    if (record === undefined || expiresAt === undefined) return 401
    if (driver.now <= expiresAt) return 200
    return record.kind === "managed" ? 498 : 401
  }

  return {
    createAccount: (kind) => {
      accounts.set(++lastAccount, { kind, refresh: new Set(), access: new Map() })
      return lastAccount
    },
    authorise,
    isLive: (token) => accounts.get(owners.get(token) ?? 0)?.refresh.has(token) === true,
    respond: (request) => Api.answer(request, api(Api.tokenOf(request)), driver.now),
    api,
    revoke: (account) => accounts.get(account)?.refresh.clear(),
    killAccess: (account) => {
      const record = accounts.get(account)
      for (const token of record?.access.keys() ?? []) {
        if (record?.kind === "managed")
          record.access.set(token, Math.min(driver.now - 1, record.access.get(token) ?? 0))
        else record?.access.delete(token)
      }
    },
    deleteAccount: (account) => accounts.delete(account),
    hasAccount: (account) => accounts.has(account),
    setSecretRejected: (value) => {
      secretRejected = value
    },
    connect: (node) => {
      const calTime = Effect.runSync(CalTime.make)
      const call = (op: "refresh" | "reissue", perform: (answer: Answer) => void, kind: "managed" | "oauth2") =>
        Effect.suspend(() => {
          const sentAt = driver.now + skewOf(world, node)
          return exchange<readonly [grant: Grant, date: number], CallFailure>(world, node, {
            op,
            patience,
            refused,
            reset,
            execute: (fault, answer) => {
              const other = instead(fault)
              const failed = (failure: CallFailure) =>
                Effect.zipRight(calTime.observe(dated(driver.now), sentAt), Effect.fail(failure))
              if (other !== undefined && !other.commits) return answer(failed(other.failure))
              perform((result) => {
                const grant = Option.getOrUndefined(Either.getRight(result))
                if (other !== undefined) return answer(failed(other.failure), grant)
                if (Either.isLeft(result)) return answer(failed(result.left))
                const date = Math.floor(driver.now / 1000) * 1000
                answer(Effect.as(calTime.observe(dated(date), sentAt), [result.right, date] as const), grant)
              })
            }
          })
        }).pipe(
          Effect.map(([grant, date]): ClientGrant => ({
            pair: {
              accessToken: Redacted.make(grant.accessToken),
              refreshToken: Redacted.make(grant.refreshToken),
              accessTokenExpiresAt: kind === "managed" ? grant.expiresAt : date + plan.lifetime,
              issuedAt: date
            },
            news: "pair",
            calUserId: grant.account,
            departures: []
          }))
        )
      const none = Effect.die("not part of a simulation")
      return watched(world, node, {
        apiUrl: "https://api.cal.com/v2",
        managedClientId: Option.some(managedClientId),
        oauth2ClientId: Option.some(oauth2ClientId),
        now: calTime.now,
        observeDate: calTime.observe,
        rateLimit: () => Effect.succeedNone,
        refresh: (connection, refreshToken) =>
          call(
            "refresh",
            (answer) => answerRefresh(Redacted.value(refreshToken), answer),
            connection._tag === "ManagedUser" ? "managed" : "oauth2"
          ),
        reissue: (connection) => call("reissue", (answer) => answerReissue(connection.calUserId, answer), "managed"),
        exchange: () => none,
        createManagedUser: () => none,
        me: () => none
      })
    }
  }
}

/** The header that tells Cal.com's time. */
const dated = (now: number): Headers.Headers => Headers.unsafeFromRecord({ date: new Date(now).toUTCString() })

/** How far a node's clock is ahead. */
const skewOf = (world: World, node: Node): number => world.plan.nodes[node.index] ?? 0
