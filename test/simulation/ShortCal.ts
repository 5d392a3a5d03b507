/**
 * Cal.com in short: refresh tokens are members of a set, an answer is a value. The rules are those of the sandbox, which
 * takes them from Cal.com's API v2: a managed refresh spends its token alone, an OAuth2 one every token of its user and
 * client, and there check and rotation are two steps; a reissue ends everything that was there.
 */
import { Headers } from "@effect/platform"
import { Duration, Effect, Either, Option, Redacted } from "effect"
import { CallFailure, type Grant as ClientGrant, type Kept } from "../../src/CalClient.js"
import * as Clients from "../../src/CalClient/Clients.js"
import * as TokenAnswer from "../../src/CalClient/TokenAnswer.js"
import * as CalTime from "../../src/CalHttp/CalTime.js"
import { demoManaged, demoOAuth2 } from "../../src/Sandbox.js"
import { type Connection, hash } from "../../src/Token.js"
import {
  CalClientMisconfigured,
  CalProtocolError,
  CalRateLimited,
  CalRequestRejected,
  CalUnavailable
} from "../../src/TokenError.js"
import * as Answers from "./Answers.js"
import * as Api from "./Api.js"
import { type Authorised, authorised, type Cal, exchange, type Given, holdsFor, watched } from "./Cal.js"
import { type End, Ledger } from "./Ledger.js"
import type { Odd } from "./Plan.js"
import type { Grant } from "./Oracle.js"
import type { Mishap, Node, World } from "./World.js"

export const managedClientId = demoManaged.clientId
export const oauth2ClientId = demoOAuth2.clientId

/** An access token without a refresh token. */
interface Renewal {
  readonly accessToken: string
  readonly expiresAt: number
}

interface Account {
  readonly kind: "managed" | "oauth2"
  readonly refresh: Set<string>
  /** Access tokens with their expiries. */
  readonly access: Map<string, number>
}

/** Cal.com, to whom another system may speak besides the fleet. */
export interface Shared extends Cal {
  /** Another system has this account's refresh token, or one of its own, and spends it. */
  readonly spendElsewhere: (account: number) => void
}

/** How long an OAuth2 refresh token lives. */
const refreshLife = 30 * 86_400_000

export const make = (world: World, patience: number, ledger = new Ledger()): Shared => {
  const { driver, oracle, plan } = world
  const accounts = new Map<number, Account>()
  const owners = new Map<string, number>()
  const issuedAt = new Map<string, number>()
  let secretRejected = false
  let lastAccount = 1000
  let lastToken = 0

  const issueAccess = (account: number, { access, kind }: Account) => {
    const { now } = driver
    const iat = Math.floor(now / 1000)
    const expiresAt = kind === "managed" ? now + plan.lifetime : iat * 1000 + plan.lifetime
    const end = kind === "managed" ? { expiresAt } : { exp: expiresAt / 1000 }
    const claims = { iat, userId: account, jti: ++lastToken, ...end }
    const accessToken = `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.a`
    access.set(accessToken, expiresAt)
    owners.set(accessToken, account)
    return { accessToken, expiresAt }
  }

  const issue = (account: number, record: Account): Grant => {
    const access = issueAccess(account, record)
    const refreshToken = `refresh-token-of-cal-${lastToken}`
    record.refresh.add(refreshToken)
    issuedAt.set(refreshToken, driver.now)
    owners.set(refreshToken, account)
    const grant = oracle.granted({ ...access, refreshToken, hash: hash(Redacted.make(refreshToken)), account })
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
      const grant = issue(account, record)
      end([token], { by: "fleet", at: driver.now, brought: grant })
      return grant
    }
    const ended = [...record.refresh]
    record.refresh.clear()
    const grant = issue(account, record)
    end(ended, { by: "fleet", at: driver.now, brought: grant })
    return grant
  }

  const end = (tokens: Iterable<string>, how: End) => {
    for (const token of tokens) ledger.ended(hash(Redacted.make(token)), how)
  }

  const reissue = (account: number, record: Account): Grant => {
    record.refresh.clear()
    record.access.clear()
    return issue(account, record)
  }

  const misconfigured = CallFailure.ClientWide({
    isOwn: false,
    error: new CalClientMisconfigured({ clientId: managedClientId, reason: "status 401" })
  })
  const unavailable = (reason: string, status?: number) =>
    new CalUnavailable({ operation: "refresh", reason, ...(status === undefined ? {} : { status }) })
  const rejected = CallFailure.Rejected({
    error: new CalRequestRejected({ operation: "refresh", status: 400, reason: "Invalid refresh token" }),
    refusal: "unknown"
  })
  const rejectedGrant = (refusal: "invalid" | "revoked") =>
    CallFailure.Rejected({
      error: new CalRequestRejected({ operation: "refresh", status: 400, reason: "invalid_grant" }),
      refusal
    })
  /** OAuth2 tokens say when their time is over, and Cal.com looks at that first. */
  const refusalOf = (kind: Account["kind"], token: string) =>
    kind === "managed" ? rejected : rejectedGrant(isOver(token) ? "invalid" : "revoked")
  const isOver = (token: string) => (issuedAt.get(token) ?? 0) + refreshLife <= driver.now
  const gone = CallFailure.UserGone({
    error: new CalRequestRejected({
      operation: "reissue",
      status: 404,
      reason: "User is not part of this OAuth client"
    })
  })

  /** What the caller hears instead of the answer; and whether Cal.com did its work nevertheless. */
  const instead = (
    mishap: Mishap | undefined
  ): { readonly failure: CallFailure; readonly commits: boolean } | undefined => {
    switch (mishap?.fault) {
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
      case undefined:
      case "odd":
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

  /** A refresh token that stays is no grant, and nothing else is in its answer. */
  type Answer = (result: Either.Either<Grant | Renewal, CallFailure>) => void

  const renew = (account: number, record: Account, token: string): Renewal => {
    const renewal = issueAccess(account, record)
    oracle.renewed(hash(Redacted.make(token)), renewal)
    return renewal
  }

  /** One request at Cal.com, from its arrival on. */
  const answerRefresh = (kind: Account["kind"], token: string, odd: Odd | undefined, answer: Answer) => {
    if (secretRejected) return answer(Either.left(misconfigured))
    const account = owners.get(token) ?? 0
    const record = accounts.get(account)
    if (record?.kind === "oauth2" && record.refresh.has(token) && isOver(token)) {
      record.refresh.delete(token)
      end([token], { by: "time", at: driver.now })
    }
    const refusal = refusalOf(kind, token)
    if (record === undefined || !record.refresh.has(token)) return answer(Either.left(refusal))
    const finish = () => {
      if (accounts.get(account) !== record) return answer(Either.left(refusal))
      if (odd?.answer === "refreshTokenKept" && record.refresh.has(token))
        return answer(Either.right(renew(account, record, token)))
      const grant = rotate(account, record, token)
      answer(grant === undefined ? Either.left(refusal) : Either.right(grant))
    }
    if (plan.raceWindow > 0) driver.after(plan.raceWindow, world.server, finish)
    else finish()
  }

  const answerReissue = (account: number, answer: Answer) => {
    if (secretRejected) return answer(Either.left(misconfigured))
    const record = accounts.get(account)
    answer(record === undefined ? Either.left(gone) : Either.right(reissue(account, record)))
  }

  /** A live pair of another account, one of the fleet's if there is any. */
  const somebodyElse = (kind: Account["kind"], account: number | undefined): Grant => {
    const [other, record] = [...accounts].find(([id, record]) => id !== account && record.kind === kind) ?? [
      createAccount(kind),
      undefined
    ]
    const grant = issue(other, record ?? accountOf(other))
    oracle.lost(grant, "it was given to somebody else")
    return grant
  }

  const accountOf = (account: number): Account => {
    const record = accounts.get(account)
    if (record === undefined) throw new Error("no such account")
    return record
  }

  const createAccount = (kind: Account["kind"]): number => {
    accounts.set(++lastAccount, { kind, refresh: new Set(), access: new Map() })
    return lastAccount
  }

  const reset = Effect.fail(CallFailure.Unknown({ error: unavailable("connection reset") }))
  const refused = Effect.fail(CallFailure.NotSpent({ error: unavailable("connection refused") }))

  const authorise = (account: number): Authorised => {
    const record = accountOf(account)
    const grant = record.kind === "managed" ? reissue(account, record) : issue(account, record)
    return authorised(grant)
  }

  const api = (token: string): number => {
    const record = accounts.get(owners.get(token) ?? 0)
    const expiresAt = record?.access.get(token)
    if (record === undefined || expiresAt === undefined) return 401
    if (driver.now <= expiresAt) return 200
    return record.kind === "managed" ? 498 : 401
  }

  return {
    createAccount,
    authorise,
    refreshElsewhere: (token, answer) =>
      answerRefresh(accounts.get(owners.get(token) ?? 0)?.kind ?? "oauth2", token, undefined, (result) => {
        const grant = Option.getOrUndefined(Either.getRight(result))
        answer(grant !== undefined && "hash" in grant ? authorised(grant) : undefined)
      }),
    isLive: (token) => accounts.get(owners.get(token) ?? 0)?.refresh.has(token) === true,
    respond: (request) => Api.answer(request, api(Api.tokenOf(request)), driver.now),
    api,
    revoke: (account) => {
      const record = accounts.get(account)
      end(record?.refresh ?? [], { by: "person", at: driver.now })
      record?.refresh.clear()
    },
    spendElsewhere: (account) => {
      const record = accounts.get(account)
      if (record === undefined) return
      end(record.refresh, { by: "otherSystem", at: driver.now })
      record.refresh.clear()
      oracle.lost(issue(account, record), "another system has it")
    },
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
    revokeSecret: () => undefined,
    setSecretRejected: (value) => {
      secretRejected = value
    },
    connect: (node) => {
      const calTime = Effect.runSync(CalTime.make)
      const { hasWrongSecret } = node
      interface Asked {
        readonly op: "refresh" | "reissue"
        readonly connection: Connection
        readonly kept: Kept | undefined
        readonly sent?: Redacted.Redacted
      }
      const call = (asked: Asked, perform: (odd: Odd | undefined, answer: Answer) => void) =>
        Effect.suspend(() => {
          const { connection, kept, op, sent } = asked
          const kind = kindOf(connection)
          const sentAt = driver.now + skewOf(world, node)
          return exchange<ClientGrant, CallFailure>(world, node, {
            op,
            kind,
            patience,
            refused,
            reset,
            execute: (mishap, answer) => {
              const other = instead(mishap)
              const odd = mishap?.odd
              const failed = (failure: CallFailure) =>
                Effect.zipRight(calTime.observe(dated(driver.now), sentAt), Effect.fail(failure))
              if (other !== undefined && !other.commits) return answer(failed(other.failure))
              const date = Math.floor(driver.now / 1000) * 1000
              /** Reads bytes as the product does. */
              const read = ({ bytes, isWhole }: Answers.Sent) =>
                Effect.zipRight(
                  calTime.observe(dated(driver.now), sentAt),
                  Effect.suspend((): Effect.Effect<ClientGrant, CallFailure> => {
                    const reading = TokenAnswer.read(node.isNewer ? Answers.understood(bytes) : bytes, {
                      ...kept,
                      kind,
                      clientId: connection.clientId,
                      calUserId: connection.calUserId,
                      sent,
                      issuedAt: date,
                      isWhole
                    })
                    switch (reading._tag) {
                      case "Granted":
                        return Effect.succeed(reading.grant)
                      case "BrokenOff":
                        return Effect.fail(CallFailure.Unknown({ error: unavailable("the answer broke off", 200) }))
                      case "Unreadable": {
                        const error = new CalProtocolError({ operation: op, issue: reading.answer.reason })
                        return Effect.fail(CallFailure.Unreadable({ error, answer: reading.answer }))
                      }
                    }
                  })
                )
              if (odd?.isDone === false) return answer(read(Answers.send(odd.answer, "", driver.now)))
              if (hasWrongSecret) return answer(failed(misconfigured))
              perform(odd, (result) => {
                const right = Option.getOrUndefined(Either.getRight(result))
                const grant = right !== undefined && "hash" in right ? right : undefined
                const given = (holds: Given["holds"] = "pair") => grant && { grant, holds }
                if (other !== undefined) return answer(failed(other.failure), given())
                if (Either.isLeft(result)) return answer(failed(result.left))
                if (odd !== undefined) {
                  const shown = odd.answer === "otherUser" ? somebodyElse(kind, connection.calUserId) : result.right
                  const sent = Answers.send(odd.answer, textOf(kind, shown, plan.lifetime), driver.now)
                  return answer(read(sent), given(holdsFor(node, odd.answer)))
                }
                const client = grantOf(kind, grant, date)
                answer(Effect.as(calTime.observe(dated(date), sentAt), client), given())
              })
            }
          })
        })
      const grantOf = (kind: Account["kind"], grant: Grant | undefined, date: number): ClientGrant => {
        if (grant === undefined) throw new Error("only an odd answer holds no pair")
        return {
          pair: {
            accessToken: Redacted.make(grant.accessToken),
            refreshToken: Redacted.make(grant.refreshToken),
            accessTokenExpiresAt: kind === "managed" ? grant.expiresAt : date + plan.lifetime,
            issuedAt: date
          },
          news: "pair",
          calUserId: grant.account,
          departures: []
        }
      }
      const none = Effect.die("not part of a simulation")
      return watched(world, node, {
        apiUrl: "https://api.cal.com/v2",
        clients: {
          managed: Clients.make({ clientId: managedClientId }),
          oauth2: Clients.make({ clientId: oauth2ClientId, isPublic: false })
        },
        now: calTime.now,
        unsafeTimeOffset: calTime.unsafeOffset,
        observeDate: calTime.observe,
        rateLimit: () => Effect.succeedNone,
        budgets: Effect.succeed([]),
        fingerprint: () => (hasWrongSecret ? "wrong" : "right"),
        refresh: (connection, refreshToken, kept) =>
          call({ op: "refresh", connection, kept, sent: refreshToken }, (odd, answer) =>
            answerRefresh(kindOf(connection), Redacted.value(refreshToken), odd, answer)
          ),
        reissue: (connection, kept) =>
          call({ op: "reissue", connection, kept }, (_odd, answer) => answerReissue(connection.calUserId, answer)),
        exchange: () => none,
        createManagedUser: () => none,
        me: () => none
      })
    }
  }
}

/** An answer as the contract has it. */
const textOf = (kind: Account["kind"], { accessToken, expiresAt, ...other }: Grant | Renewal, lifetime: number) => {
  const refreshToken = "refreshToken" in other ? other.refreshToken : undefined
  return JSON.stringify(
    kind === "managed"
      ? { status: "success", data: { accessToken, refreshToken, accessTokenExpiresAt: expiresAt } }
      : { access_token: accessToken, token_type: "bearer", refresh_token: refreshToken, expires_in: lifetime / 1000 }
  )
}

const kindOf = ({ _tag }: Connection): Account["kind"] => (_tag === "ManagedUser" ? "managed" : "oauth2")

/** The header that tells Cal.com's time. */
const dated = (now: number): Headers.Headers => Headers.unsafeFromRecord({ date: new Date(now).toUTCString() })

/** How far a node's clock is ahead. */
const skewOf = (world: World, node: Node): number => world.plan.nodes[node.index] ?? 0
