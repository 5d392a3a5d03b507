/** Readers that are too strict or too greedy, to see whether the mutations miss them. */
import { Effect, Option, Schema } from "effect"
import { assert, describe, it } from "vitest"
import * as Campaign from "./Campaign.js"
import * as Case from "./Case.js"
import { exclusions } from "./Exclusions.js"
import { inclusions } from "./Inclusions.js"
import type * as Judge from "./Judge.js"

const cases = Array.from({ length: 4000 }, (_, index) => Case.draw(index))

/** Kept as it came: that alone is never what these are caught for. */
const refused = ({ answer }: Case.Case): Judge.Made => ({
  _tag: "Refused",
  how: "Unreadable",
  bytes: Buffer.concat(answer.chunks)
})

const failures = async (read: (each: Case.Case) => Judge.Made) => {
  const result = Campaign.tally()
  await Campaign.run(
    cases,
    result,
    Effect.succeed((each) => Effect.sync(() => read(each)))
  )
  return result.failures
}

/** Exactly what the contracts promise. */
const contracts = {
  managed: Schema.parseJson(
    Schema.Struct({
      data: Schema.Struct({
        accessToken: Schema.String,
        refreshToken: Schema.String,
        accessTokenExpiresAt: Schema.Number
      })
    })
  ),
  oauth2: Schema.parseJson(
    Schema.Struct({ access_token: Schema.String, refresh_token: Schema.String, expires_in: Schema.Number })
  )
}

const strict = (each: Case.Case): Judge.Made => {
  const text = Buffer.concat(each.answer.chunks).toString()
  const pair =
    each.before.kind === "managed"
      ? Option.map(Schema.decodeOption(contracts.managed)(text), ({ data }) => ({
          access: data.accessToken,
          refresh: data.refreshToken
        }))
      : Option.map(Schema.decodeOption(contracts.oauth2)(text), ({ access_token, refresh_token }) => ({
          access: access_token,
          refresh: refresh_token
        }))
  return Option.match(
    Option.filter(pair, () => each.answer.status === 200),
    {
      onNone: () => refused(each),
      onSome: ({ access, refresh }) => ({
        _tag: "Granted",
        access,
        refresh,
        expiresAt: "expiresAt" in each.expected ? (each.expected.expiresAt ?? 0) : 0,
        isOpen: false
      })
    }
  )
}

/** Whatever looks like a token, wherever it stands and whatever it says. */
const greedy = (each: Case.Case): Judge.Made => {
  const text = Buffer.concat(each.answer.chunks).toString()
  const [access, refresh] = [
    /access[\w-]*["\\]*\s*[:=]\s*["\\]*([\w.-]+)/i,
    /refresh[\w-]*["\\]*\s*[:=]\s*["\\]*([\w.-]+)/i
  ].map((pattern) => pattern.exec(text)?.[1])
  return access === undefined || refresh === undefined
    ? refused(each)
    : { _tag: "Granted", access, refresh, expiresAt: 0, isOpen: false }
}

const isLost = ({ wrong }: Campaign.Failure) => wrong.startsWith("a new token is lost")
const isTaken = ({ wrong }: Campaign.Failure) => wrong === "something is taken"

describe("a reader that is too strict", () => {
  it("is caught by each kind of answer that departs from the contract", async () => {
    const lost = (await failures(strict)).filter(isLost)
    const conforming = [
      "as contracted",
      "a null error added",
      "an ID token added",
      "decoded on the way",
      "fields added",
      "in pieces",
      "opaque tokens",
      "other claims",
      "other fields dropped",
      "shuffled",
      "tokens twice",
      "what was sent is quoted",
      "written otherwise"
    ]
    for (const name of Object.keys(inclusions)) {
      if (conforming.includes(name)) continue
      assert.isTrue(
        lost.some(({ each }) => each.inclusions.includes(name)),
        name
      )
    }
  })
})

describe("a reader that is too greedy", () => {
  it("is caught by each kind of answer of which nothing may be taken", async () => {
    const taken = (await failures(greedy)).filter(isTaken)
    for (const name of Object.keys(exclusions)) {
      // There is nothing in it that anybody could take.
      if (name === "a page without tokens") continue
      assert.isTrue(
        taken.some(({ each }) => each.exclusion === name),
        name
      )
    }
  })
})
