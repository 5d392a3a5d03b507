/** What an attempt did, as its user's history tells it. */
import { randomUUID } from "node:crypto"
import { Clock, Effect, Option } from "effect"
import type { CallFailure } from "../CalClient.js"
import * as History from "../History.js"
import { hash } from "../Token.js"
import type { State } from "./Plan.js"
import * as Schedule from "./Schedule.js"

/** A process by a name that says nothing of where it runs. */
export const nameProcess = (): string => randomUUID().slice(0, 8)

type Attempt = Extract<History.Event, { readonly _tag: "Attempt" }>

export interface Trail {
  /** A call was made, and this came of it. */
  readonly went: (step: History.Step) => void
  /** The attempt ends; nothing is to be told of one that is given back before it sent anything. */
  readonly end: (end: Attempt["end"]) => Effect.Effect<History.Event | undefined>
  /** It brought a pair with this refresh token. */
  readonly granted: (refreshHash: string, step: History.Step) => Effect.Effect<History.Event>
  /** An answer that came when the attempt was over: all before it has been told. */
  readonly late: (end: Attempt["end"], step: History.Step, refreshHash?: string) => Effect.Effect<History.Event>
}

export const make = (
  about: Pick<Attempt, "process" | "purpose" | "trigger" | "wentBack"> & { readonly startedAt: number }
): Trail => {
  const { startedAt, ...known } = about
  const steps: Array<History.Step> = []
  const event = (end: Attempt["end"], steps: ReadonlyArray<History.Step>, refreshHash?: string) =>
    Effect.map(Clock.currentTimeMillis, (now): History.Event => ({
      _tag: "Attempt",
      ...known,
      took: Math.max(0, now - startedAt),
      steps: [...steps],
      end,
      ...(refreshHash === undefined ? {} : { brought: History.nameOf(refreshHash) })
    }))
  return {
    went: (step) => void steps.push(step),
    end: (end) => (end === "released" && steps.length === 0 ? Effect.succeed(undefined) : event(end, steps)),
    granted: (refreshHash, step) => event("granted", [...steps, step], refreshHash),
    late: (end, step, refreshHash) => event(end, [{ ...step, isLate: true }], refreshHash)
  }
}

/** What is sent: a token, or, without one, the wish for a reissue. `seen`: the token that the row had when it was claimed. */
export const sending = (
  { probe, row }: State,
  seen: string,
  token: { readonly hash: string; readonly again: boolean } | undefined
): Pick<History.Step, "as" | "token"> =>
  token === undefined
    ? { as: "reissue", token: History.nameOf(seen) }
    : {
        as: token.again
          ? "again"
          : Option.contains(probe, token.hash)
            ? "probe"
            : token.hash === hash(row.pair.refreshToken)
              ? "own"
              : "fallback",
        token: History.nameOf(token.hash)
      }

/** What Cal.com answered, or that it did not. `now`: its time. */
export const failed = (
  sent: Pick<History.Step, "as" | "token">,
  failure: CallFailure,
  { row }: State,
  now: number
): History.Step => {
  const { error } = failure
  const status = "status" in error ? error.status : error._tag === "CalRateLimited" ? 429 : undefined
  const pair = [row.pair, ...row.fallbacks].find((pair) => History.nameOf(hash(pair.refreshToken)) === sent.token)
  const ends = pair === undefined ? undefined : Schedule.refreshEnds(row.connection, pair)
  const answer = answers[failure._tag]
  return {
    ...sent,
    answer,
    ...(status === undefined ? {} : { status }),
    ...(failure._tag === "Rejected"
      ? failure.refusal === undefined
        ? {}
        : { refusal: failure.refusal }
      : { error: error._tag }),
    ...(ends !== undefined && ends <= now ? { isExpired: true } : {})
  }
}

const answers = {
  NotSpent: "notSpent",
  Rejected: "rejected",
  UserGone: "userGone",
  ClientWide: "clientWide",
  Unknown: "unknown",
  Unreadable: "unreadable"
} as const
