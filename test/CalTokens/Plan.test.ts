/** The protocol between a claim and its end, read as a table: what was learned, and what is done next. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Option, Redacted } from "effect"
import { CallFailure } from "../../src/CalClient.js"
import * as Plan from "../../src/CalTokens/Plan.js"
import { type Connection, hash, type TokenPair } from "../../src/Token.js"
import { CalRateLimited, CalRequestRejected, CalUnavailable } from "../../src/TokenError.js"
import * as World from "../support/World.js"

const pairOf = (name: string): TokenPair => ({
  accessToken: Redacted.make(`access-${name}`),
  refreshToken: Redacted.make(name),
  accessTokenExpiresAt: 0
})
const hashOf = (name: string) => hash(Redacted.make(name))

const managed: Connection = { _tag: "ManagedUser", clientId: "platform", calUserId: 7 }
const oauth2: Connection = { _tag: "OAuth2", clientId: "oauth" }

/** A row with these refresh tokens, its own first. */
const rowOf = (connection: Connection, [own = "own", ...fallbacks]: ReadonlyArray<string>): Plan.State["row"] => ({
  userUlid: World.user(),
  connection,
  pair: pairOf(own),
  fallbacks: fallbacks.map(pairOf),
  lookups: [],
  status: { _tag: "Active" },
  version: 1,
  sessionsAfter: 1,
  updatedAt: 0
})

const unavailable = new CalUnavailable({ operation: "refresh", reason: "connection reset" })
const refusal = new CalRequestRejected({ operation: "refresh", status: 400, reason: "Invalid refresh token" })
const limited = new CalRateLimited({ operation: "refresh", retryAfter: Duration.seconds(1) })

/** What can come of a step, in a word. */
const outcomes = {
  rejected: Plan.Outcome.Failed({ failure: CallFailure.Rejected({ error: refusal }) }),
  unknown: Plan.Outcome.Failed({ failure: CallFailure.Unknown({ error: unavailable }) }),
  "not spent": Plan.Outcome.Failed({ failure: CallFailure.NotSpent({ error: limited }) }),
  "client-wide": Plan.Outcome.Failed({ failure: CallFailure.ClientWide({ error: refusal, isOwn: false }) }),
  gone: Plan.Outcome.Failed({ failure: CallFailure.UserGone({ error: refusal }) }),
  waited: Plan.Outcome.Waited()
} as const

const say = Plan.Step.$match({
  Spend: ({ candidate, isJournalled }) =>
    `${isJournalled ? "send" : "journal and send"} ${Redacted.value(candidate.pair.refreshToken)}`,
  SpendAgain: ({ candidate }) => `wait a little and send ${Redacted.value(candidate.pair.refreshToken)} again`,
  Reissue: () => "reissue",
  AwaitLatePair: () => "wait",
  End: ({ ending }) => `end: ${ending._tag}${ending._tag === "Terminal" ? ` ${ending.cause}` : ""}`
})

interface Attempt {
  readonly of: Connection
  readonly purpose?: Plan.State["purpose"]
  /** The row's own refresh token, then its fallbacks. */
  readonly tokens?: ReadonlyArray<string>
  readonly probe?: string
  readonly isYoung?: boolean
}

/** All that an attempt does while these are what comes of it. */
const told = (
  { isYoung = false, of, probe, purpose = "refresh", tokens = ["own"] }: Attempt,
  ...events: ReadonlyArray<keyof typeof outcomes>
): ReadonlyArray<string> => {
  const row = rowOf(of, tokens)
  let [step, state] = Plan.next(
    Plan.begin({ purpose, row, isYoung, probe: Option.map(Option.fromNullable(probe), hashOf) }),
    Plan.Outcome.Claimed()
  )
  const said = [say(step)]
  for (const event of events) {
    ;[step, state] = Plan.next(state, outcomes[event])
    said.push(say(step))
  }
  return said
}

const table: Readonly<Record<string, readonly [told: ReadonlyArray<string>, expected: ReadonlyArray<string>]>> = {
  "the row's token is sent first, as the claim has journalled it": [told({ of: oauth2 }), ["send own"]],
  "an unknown outcome ends it": [told({ of: oauth2 }, "unknown"), ["send own", "end: Unknown"]],
  "a token that was not spent ends it": [told({ of: oauth2 }, "not spent"), ["send own", "end: NotSpent"]],
  "a client that is refused ends it": [told({ of: managed }, "client-wide"), ["send own", "end: ClientWide"]],
  "of refused tokens the fallbacks follow in turn, each journalled first": [
    told({ of: managed, tokens: ["own", "b", "c"] }, "rejected", "rejected", "unknown"),
    ["send own", "journal and send b", "journal and send c", "end: Unknown"]
  ],
  "a managed user whose tokens are all refused is reissued": [
    told({ of: managed, tokens: ["own", "b"] }, "rejected", "rejected"),
    ["send own", "journal and send b", "reissue"]
  ],
  "a reissue of unknown outcome is repeated once": [
    told({ of: managed }, "rejected", "unknown", "unknown"),
    ["send own", "reissue", "reissue", "end: Unknown"]
  ],
  "a reissue that was not processed ends it": [
    told({ of: managed }, "rejected", "not spent"),
    ["send own", "reissue", "end: NotSpent"]
  ],
  "a managed user who is gone is gone": [
    told({ of: managed }, "rejected", "gone"),
    ["send own", "reissue", "end: Terminal calUserGone"]
  ],
  "an answer to another call says nothing of the token": [told({ of: managed }, "gone"), ["send own", "end: Unknown"]],
  "nor does it of a reissue": [told({ of: managed, purpose: "reissue" }, "rejected"), ["reissue", "end: Unknown"]],
  "a reissue that was asked for spends no token": [told({ of: managed, purpose: "reissue" }), ["reissue"]],
  "an OAuth2 user whose token is refused has to reconnect": [
    told({ of: oauth2 }, "rejected"),
    ["send own", "end: Terminal revoked"]
  ],
  "a probe is sent first; refused, another process may hold the pair": [
    told({ of: oauth2, probe: "own" }, "rejected", "waited"),
    ["send own", "wait", "end: Terminal rotationLost"]
  ],
  "a probe of another token than the row's is in the journal already": [
    told({ of: oauth2, tokens: ["own", "b"], probe: "b" }, "rejected", "unknown"),
    ["send b", "journal and send own", "end: Unknown"]
  ],
  "a probe that was not processed leaves the outcome unknown": [
    told({ of: oauth2, probe: "own" }, "not spent"),
    ["send own", "end: Unknown"]
  ],
  "a pair that is seconds old is believed dead at the second refusal": [
    told({ of: oauth2, isYoung: true }, "rejected", "rejected"),
    ["send own", "wait a little and send own again", "end: Terminal revoked"]
  ],
  "its fallbacks, which are older, at the first": [
    told({ of: managed, tokens: ["own", "b"], isYoung: true }, "rejected", "rejected", "rejected"),
    ["send own", "wait a little and send own again", "journal and send b", "reissue"]
  ],
  "displaced tokens that are refused: whoever spent them may hold the pair": [
    told({ of: oauth2, tokens: ["own", "b"] }, "rejected", "rejected", "waited"),
    ["send own", "journal and send b", "wait", "end: Terminal revoked"]
  ]
}

describe("an attempt", () => {
  for (const [what, [told, expected]] of Object.entries(table)) {
    it(what, () => assert.deepStrictEqual(told, expected))
  }

  it("a token that turned up in the last moment is tried, also after a wait, and the refused ones are not again", () => {
    const row = rowOf(oauth2, ["own", "late"])
    let [, state] = Plan.next(
      Plan.begin({ purpose: "refresh", row: rowOf(oauth2, ["own"]), probe: Option.none(), isYoung: false }),
      Plan.Outcome.Claimed()
    )
    ;[, state] = Plan.next(state, outcomes.rejected)
    const [step] = Plan.next(state, Plan.Outcome.Untried({ row }))
    assert.strictEqual(say(step), "journal and send late")
  })
})
