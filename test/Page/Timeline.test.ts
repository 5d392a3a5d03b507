import { assert, describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Api from "../../src/Api/Connections.js"
import { explain, toLines } from "../../src/Explain.js"
import type { Entry } from "../../src/History.js"
import { told } from "../../src/Http/Connections.js"
import * as Timeline from "../../src/Page/Timeline.js"
import { TokenStorage, type StoredHistory } from "../../src/TokenStorage.js"
import * as World from "../support/World.js"

const encode = Schema.encodeSync(Api.ConnectionHistory)

const at = Date.parse("2026-11-28T09:02:11.123Z")

/** A managed user's, as the storage has it. */
const stored = Effect.gen(function* () {
  yield* World.obtainManaged()
  const storage = yield* TokenStorage
  return yield* Effect.flatten(storage.history(World.user()))
})

const attempt = (n: number): Entry => ({
  at: at + n * 1_000,
  written: n === 2 ? "recorded" : "stored",
  event: {
    _tag: "Attempt",
    process: "p",
    purpose: "refresh",
    trigger: "asked",
    took: 12,
    steps: [{ as: "own", token: "aaaaaaaa", answer: n === 2 ? "rejected" : "granted", status: n === 2 ? 400 : 200 }],
    end: n === 2 ? "terminal" : "granted"
  }
})

World.scenario(
  "a copied history is what the command line prints",
  Effect.gen(function* () {
    const history = yield* stored
    const status = { _tag: "ReauthorizationRequired", cause: "revoked", since: at + 2_000 } as const
    const variants: ReadonlyArray<StoredHistory> = [
      history,
      { ...history, entries: [] },
      { ...history, entries: [attempt(0), attempt(1), attempt(2)] },
      { ...history, entries: [attempt(0), attempt(2)], connection: { ...history.connection, status } },
      { ...history, open: { process: "q", startedAt: at + 9_000, leaseUntil: at + 39_000, token: "bbbbbbbb" } },
      { ...history, entries: [], open: { startedAt: at, leaseUntil: at } }
    ]
    for (const variant of variants) {
      const copied = Timeline.toLines(encode(told(variant)))
      assert.deepStrictEqual(copied, toLines(explain(variant)))
      assert.isAbove(copied.length, 1)
    }
  })
)

const entry = (instant: string, written: Entry["written"] = "stored", event: Entry["event"] = attempt(0).event) => ({
  at: instant,
  text: "",
  written,
  event
})

describe("a timeline", () => {
  it("has the days of the reader's calendar, the latest first", () => {
    const entries = ["2026-11-28T09:00:00Z", "2026-11-27T23:30:00Z", "2026-11-27T22:30:00Z", "2026-11-25T10:00:00Z"]
    const days = (zone: string) =>
      Timeline.byDay(
        entries.map((instant) => entry(instant)),
        at,
        zone
      ).map(({ entries, name }) => [name, entries.length])
    expect(days("UTC")).toStrictEqual([
      ["Today", 1],
      ["Yesterday", 2],
      ["25 Nov", 1]
    ])
    expect(days("Europe/Berlin")).toStrictEqual([
      ["Today", 2],
      ["Yesterday", 1],
      ["25 Nov", 1]
    ])
  })

  it("says in a word what an entry is", () => {
    const { event } = attempt(0)
    const word = (written: Entry["written"], changed: object) =>
      Timeline.mark(entry("", written, { ...event, ...changed })).word
    expect(word("stored", {})).toBe("Refreshed")
    expect(word("stored", { purpose: "reissue" })).toBe("Reissued")
    expect(word("late", {})).toBe("Too late")
    expect(word("recorded", { end: "terminal" })).toBe("Has to reconnect")
    expect(word("spared", { end: "terminal" })).toBe("Failed")
    expect(word("recorded", { end: "unknown" })).toBe("Failed")
    expect(word("sealed", { end: "unknown" })).toBe("Kept, sealed")
  })

  it("has the instants of a sentence apart", () => {
    expect(Timeline.parts("Since 2026-11-28T09:02:11.123Z, or 2026-11-28T09:02:11Z.")).toStrictEqual([
      { text: "Since " },
      { at: "2026-11-28T09:02:11.123Z" },
      { text: ", or " },
      { at: "2026-11-28T09:02:11Z" },
      { text: "." }
    ])
    expect(Timeline.parts("Nothing to do.")).toStrictEqual([{ text: "Nothing to do." }])
  })
})
