/**
 * Cal.com as the fleet reaches it. Two ways lead there: through `CalClient`, HTTP and the sandbox, and a short one in
 * which requests are function calls and tokens are rows in a map. The short one says the same in less time; histories of
 * both kinds are run.
 */
import type { HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { Effect } from "effect"
import type { CalClient, CallFailure } from "../../src/CalClient.js"
import { type Connection, hash } from "../../src/Token.js"
import { holds, type Holds, type Name } from "./Answers.js"
import type { CalFault, CalOp } from "./Plan.js"
import type { Grant } from "./Oracle.js"
import type { Mishap, Node, World } from "./World.js"

/** A pair as Cal.com hands it to a person or a platform. */
export interface Authorised {
  readonly grant: Grant
  readonly accessToken: string
  readonly refreshToken: string
  readonly expiresAt: number
}

export interface Cal {
  /** A new Cal.com account. */
  readonly createAccount: (kind: "managed" | "oauth2") => number
  /** The account's owner (or the platform) gets a fresh pair. */
  readonly authorise: (account: number) => Authorised
  /** A system that is not the fleet spends a refresh token; a pair, where it is good. */
  readonly refreshElsewhere: (refreshToken: string, answer: (pair: Authorised | undefined) => void) => void
  readonly isLive: (refreshToken: string) => boolean
  /** Cal.com's answer to an API request. */
  readonly respond: (
    request: HttpClientRequest.HttpClientRequest
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse>
  /** Its status: 200, 498 or 401. */
  readonly api: (accessToken: string) => number
  readonly revoke: (account: number) => void
  readonly killAccess: (account: number) => void
  readonly deleteAccount: (account: number) => void
  readonly hasAccount: (account: number) => boolean
  /** Called when a plan's window for wrong secrets opens or closes. */
  readonly setSecretRejected: (rejected: boolean) => void
  /** One of the client's two secrets, the first or the second, is refused from now on. */
  readonly revokeSecret: (which: 0 | 1) => void
  readonly connect: (node: Node) => typeof CalClient.Service
}

export const authorised = (grant: Grant): Authorised => ({
  grant,
  accessToken: grant.accessToken,
  refreshToken: grant.refreshToken,
  expiresAt: grant.expiresAt
})

/** How much of a grant this node finds in an odd answer. */
export const holdsFor = (node: Node, name: Name): Holds =>
  node.isNewer && holds(name) === "sealed" ? "pair" : holds(name)

/** What Cal.com granted, and how much of it is in its answer. */
export interface Given {
  readonly grant: Grant
  readonly holds: Holds
}

/** What an exchange with Cal.com needs to know of its kind of message. */
export interface Exchange<A, E> {
  readonly op: CalOp
  readonly kind: "managed" | "oauth2"
  /** Does the work at Cal.com and answers once; what it gave, if it gave anything. */
  readonly execute: (mishap: Mishap | undefined, answer: (reply: Effect.Effect<A, E>, given?: Given) => void) => void
  readonly refused: Effect.Effect<never, E>
  readonly reset: Effect.Effect<never, E>
  /** How long the caller listens at the least. */
  readonly patience: number
}

/** Faults whose answer arrives, but is not the pair. */
const damaged: ReadonlySet<CalFault> = new Set(["status500Committed"])
/** Faults under which Cal.com never sees the request. */
const unseen: ReadonlySet<CalFault> = new Set(["refused", "dropBefore", "silentBefore"])

/** One request and its answer, over a line on which the plan's mishaps happen. */
export const exchange = <A, E>(world: World, node: Node, options: Exchange<A, E>): Effect.Effect<A, E> =>
  Effect.async<A, E>((resume) => {
    const { driver, oracle, plan } = world
    const process = node.process
    if (process === undefined) return
    const incident = world.calFault(options.kind)
    const fault = incident?.fault
    if (fault !== undefined) world.count("fault", `Cal.com ${incident?.odd?.answer ?? fault}`)
    const sentAt = driver.now
    let isListening = true
    const hear = (reply: Effect.Effect<A, E>) => {
      if (!isListening) return
      isListening = false
      resume(reply)
    }
    const there = world.delay(plan.latency.cal)
    world.reach(node, "sent", options.op)
    if (fault === "refused") driver.after(there, process, () => hear(options.refused))
    if (fault === "dropBefore") driver.after(there, process, () => hear(options.reset))
    if (fault === undefined || !unseen.has(fault)) {
      driver.after(fault === "slowBefore" ? (incident?.millis ?? 0) : there, world.server, () =>
        options.execute(incident, (reply, given) => {
          world.reach(node, "executed", options.op)
          const grant = given?.grant
          if (grant !== undefined) grant.origin = options.op
          const lose = (why: string) => grant !== undefined && oracle.lost(grant, why)
          if (fault === "silentAfter") return lose("Cal.com's answer got lost")
          const back = fault === "slowAfter" ? (incident?.millis ?? 0) : world.delay(plan.latency.cal)
          if (!process.isAlive) return lose(`${process.name} died before the answer`)
          if (grant !== undefined) grant.holder = process
          driver.after(back, process, () => {
            world.reach(node, "answered", options.op)
            if (!process.isAlive) return lose(`${process.name} died as the answer came`)
            process.receive(() => {
              if (fault === "dropAfter") {
                lose("the connection broke before the answer")
                return hear(options.reset)
              }
              if (!isListening) return lose("the answer came when nobody listened any more")
              if (fault !== undefined && damaged.has(fault)) lose("the answer was damaged")
              else if (given?.holds === "nothing") lose("the answer held nothing of it")
              else if (given?.holds === "accessToken") lose("the answer held no refresh token")
              else if (grant !== undefined) oracle.arrived(grant, process)
              // Its date tells Cal.com's time as exactly as it was quick.
              node.clockError = Math.min(node.clockError, driver.now - sentAt)
              hear(reply)
            })
          })
        })
      )
    }
    return Effect.sync(() => {
      isListening = false
      if (!node.isStopping && driver.now - sentAt < options.patience) {
        oracle.report("P2", `${node.name} cut a ${options.op} after ${driver.now - sentAt} ms`)
      }
    })
  })

/** Watches a client's token calls: what is sent, in whose name, and what its sender learned. */
export const watched = (world: World, node: Node, client: typeof CalClient.Service): typeof CalClient.Service => {
  const { circuits, oracle } = world
  const note = ({ _tag }: CallFailure, { clientId }: Connection) => {
    if (_tag === "ClientWide") circuits.heard(`${clientId} ${client.fingerprint(clientId)}`)
  }
  return {
    ...client,
    refresh: (connection, refreshToken, kept) =>
      Effect.suspend(() => {
        const process = node.process
        if (process === undefined) return Effect.never
        const token = hash(refreshToken)
        const end = oracle.sending(process, token, node.attempts.get(token))
        world.note(node.name, `sends ${oracle.nameOf(token)} to Cal.com`)
        world.count("call", "refreshes")
        return client.refresh(connection, refreshToken, kept).pipe(
          Effect.tapBoth({
            onFailure: (failure: CallFailure) =>
              Effect.sync(() => {
                note(failure, connection)
                world.note(node.name, `hears that ${oracle.nameOf(token)} is ${failure._tag}`)
                world.count("call", `refreshes: ${failure._tag}`)
                end(outcomes[failure._tag])
              }),
            onSuccess: (grant) =>
              Effect.sync(() => {
                world.note(
                  node.name,
                  `gets ${oracle.nameOf(hash(grant.pair.refreshToken))} for ${oracle.nameOf(token)}${grant.news === "pair" ? "" : ` (${grant.news})`}`
                )
                // Alone, an access token leaves the other one in use, or its outcome unknown.
                if (grant.news === "accessToken") end(grant.unread === undefined ? "kept" : "unknown")
                else end("granted")
              })
          }),
          Effect.onInterrupt(() => Effect.sync(() => end("unknown")))
        )
      }),
    reissue: (connection, kept) =>
      Effect.suspend(() => {
        world.note(node.name, "asks Cal.com to reissue")
        const { calUserId } = connection
        const isAsked = ({
          asked = calUserId,
          claimed
        }: {
          readonly asked: number | undefined
          readonly claimed: number | undefined
        }) => asked === calUserId && claimed === calUserId
        if (![...node.claims.values()].some(isAsked)) {
          oracle.report("reissue", `${node.name} has account ${calUserId} reissued, which nobody asked for`)
        }
        world.count("call", "reissues")
        return Effect.tapBoth(client.reissue(connection, kept), {
          onFailure: (failure: CallFailure) =>
            Effect.sync(() => {
              note(failure, connection)
              world.note(node.name, `reissue: ${failure._tag}`)
            }),
          onSuccess: (grant) =>
            Effect.sync(() => world.note(node.name, `gets ${oracle.nameOf(hash(grant.pair.refreshToken))} reissued`))
        })
      })
  }
}

const outcomes = {
  NotSpent: "notSpent",
  ClientWide: "notSpent",
  Rejected: "rejected",
  UserGone: "rejected",
  Unknown: "unknown",
  Unreadable: "unknown"
} as const
