/**
 * Every cell of the table in `TokenStorage.ts`: each event in each state, its answer and the state afterwards.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, TestClock } from "effect"
import type { Connection, TokenPair, UserUlid } from "../../src/Token.js"
import type { StorageUnavailable, TokenUnreadable } from "../../src/TokenError.js"
import type { AttemptFailure } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

type Call<A> = Effect.Effect<A, StorageUnavailable | TokenUnreadable>
type Step<A = unknown> = (storage: Fixture.Storage, userUlid: UserUlid, calUserId: number) => Call<A>

/** How a row gets into each state. "mine" is the attempt the events speak for. */
const states = {
  idle: () => Effect.void,
  "claimed by me": (storage, user) => storage.claim(Fixture.claimOf(user)),
  "claimed by other": (storage, user) => storage.claim(Fixture.claimOf(user, { attemptId: "other" })),
  "lapsed, mine": (storage, user) =>
    Effect.zipRight(storage.claim(Fixture.claimOf(user)), TestClock.adjust(Fixture.lease)),
  "lapsed, other's": (storage, user) =>
    Effect.zipRight(storage.claim(Fixture.claimOf(user, { attemptId: "other" })), TestClock.adjust(Fixture.lease)),
  unknown: (storage, user) =>
    Effect.zipRight(
      storage.claim(Fixture.claimOf(user)),
      storage.fail({ userUlid: user, attemptId: "mine", failure: Fixture.unknown() })
    ),
  terminal: (storage, user) =>
    Effect.zipRight(
      storage.claim(Fixture.claimOf(user)),
      storage.fail({ userUlid: user, attemptId: "mine", failure: Fixture.terminal() })
    )
} satisfies Record<string, Step>
type State = keyof typeof states

const fail =
  (failure: AttemptFailure): Step<string> =>
  (storage, userUlid) =>
    Effect.map(storage.fail({ userUlid, attemptId: "mine", failure }), (result) => result._tag)

const commit =
  (request: Partial<Parameters<Fixture.Storage["commit"]>[0]>, other = false): Step<string> =>
  (storage, user, calUserId) =>
    Effect.map(
      storage.commit(Fixture.commitOf(user, Fixture.managed(other ? -calUserId : calUserId), request)),
      (result) => result._tag
    )

const connect =
  (pair: string): Step<string> =>
  (storage, userUlid, calUserId) =>
    storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair(pair) }).pipe(
      Effect.as("stored"),
      Effect.catchTag("CalAccountInUse", () => Effect.succeed("in use"))
    )

/** State before → answer, state after, the row's pairs after. */
type Cells = Record<State, readonly [answer: string, after: string, ...pairs: ReadonlyArray<string>]>

const unchanged = (answer: string): Cells => ({
  idle: [answer, "idle", "one"],
  "claimed by me": [answer, "claimed", "one"],
  "claimed by other": [answer, "claimed", "one"],
  "lapsed, mine": [answer, "lapsed", "one"],
  "lapsed, other's": [answer, "lapsed", "one"],
  unknown: [answer, "unknown", "one"],
  terminal: [answer, "terminal", "one"]
})

const same = (...cell: Cells[State]): Cells => ({
  idle: cell,
  "claimed by me": cell,
  "claimed by other": cell,
  "lapsed, mine": cell,
  "lapsed, other's": cell,
  unknown: cell,
  terminal: cell
})

/** A failure counts only while the attempt is mine. */
const mine = (after: string): Cells => ({
  ...unchanged("NotRecorded"),
  "claimed by me": ["Recorded", after, "one"],
  "lapsed, mine": ["Recorded", after, "one"]
})

const takeOver =
  (
    name: string,
    { connection, ...extra }: Partial<TokenPair> & { readonly connection?: Connection } = {}
  ): Step<string> =>
  (storage, userUlid, calUserId) =>
    Fixture.takeOver(storage, userUlid, connection ?? Fixture.managed(calUserId), Fixture.pair(name, extra))

interface Event {
  readonly run: Step<string>
  readonly cells: Cells
  /** How the row came to be; otherwise it was connected. */
  readonly given?: Step
}

const events: Record<string, Event> = {
  claim: {
    run: (storage, user) =>
      Effect.map(storage.claim(Fixture.claimOf(user, { attemptId: "next" })), (result) =>
        result._tag === "Claimed" && Option.isSome(result.probe) ? "Claimed to probe" : result._tag
      ),
    cells: {
      idle: ["Claimed", "claimed", "one"],
      "claimed by me": ["Busy", "claimed", "one"],
      "claimed by other": ["Busy", "claimed", "one"],
      "lapsed, mine": ["Claimed to probe", "claimed", "one"],
      "lapsed, other's": ["Claimed to probe", "claimed", "one"],
      unknown: ["ProbeLater", "unknown", "one"],
      terminal: ["Terminal", "terminal", "one"]
    }
  },
  spend: {
    run: (storage, userUlid) =>
      Effect.map(storage.spend({ userUlid, attemptId: "mine", next: "next", dead: [] }), (row) => row._tag),
    cells: {
      ...unchanged("None"),
      "claimed by me": ["Some", "claimed", "one"],
      "lapsed, mine": ["Some", "lapsed", "one"]
    }
  },
  "commit, in time or late, of the row's pair": {
    run: commit({}),
    cells: {
      ...same("Stored", "idle", "two")
    }
  },
  "late commit of another pair of the same account": {
    run: commit({ attemptId: "late", seen: Fixture.refreshHash("zero") }),
    cells: {
      idle: ["KeptAsFallback", "idle", "one", "two"],
      "claimed by me": ["KeptAsFallback", "claimed", "one", "two"],
      "claimed by other": ["KeptAsFallback", "claimed", "one", "two"],
      "lapsed, mine": ["KeptAsFallback", "lapsed", "one", "two"],
      "lapsed, other's": ["KeptAsFallback", "lapsed", "one", "two"],
      unknown: ["KeptAsFallback", "unknown", "one", "two"],
      terminal: ["KeptAsFallback", "idle", "one", "two"]
    }
  },
  "late commit for another account": {
    run: commit({ attemptId: "late", seen: Fixture.refreshHash("zero") }, true),
    cells: unchanged("Discarded")
  },
  "fail, not spent": { run: fail(Fixture.notSpent("2 seconds")), cells: mine("backing off") },
  "fail, unknown": { run: fail(Fixture.unknown()), cells: mine("unknown") },
  "fail, terminal": { run: fail(Fixture.terminal()), cells: mine("terminal") },
  "fail, released": { run: fail(Fixture.released()), cells: mine("idle") },
  connect: { run: connect("two"), cells: same("stored", "idle", "two", "one") },
  // It may be spent: whoever repeats what they asked for knows nothing of that.
  "connect, with the pair that is there": {
    run: connect("one"),
    cells: { ...unchanged("stored"), terminal: ["stored", "idle", "one"] }
  },
  "update, with the pair that is there": {
    run: (storage, userUlid) => Effect.map(Fixture.update(storage, userUlid, Fixture.pair("one")), (row) => row._tag),
    cells: { ...unchanged("Some"), terminal: ["Some", "idle", "one"] }
  },
  update: {
    run: (storage, userUlid) => Effect.map(Fixture.update(storage, userUlid, Fixture.pair("two")), (row) => row._tag),
    cells: same("Some", "idle", "two", "one")
  },
  "import, where the user was connected": { run: takeOver("two"), cells: unchanged("RefreshedHere") },
  "import, with the pair that is there": { run: takeOver("one"), cells: unchanged("Unchanged") },
  "import of another account": {
    run: (storage, user, calUserId) => takeOver("two", { connection: Fixture.managed(-calUserId) })(storage, user, 0),
    cells: unchanged("OtherAccount")
  },
  "import of another client's account": {
    run: (storage, user, calUserId) =>
      takeOver("one", { connection: { ...Fixture.managed(calUserId), clientId: "another" } })(storage, user, 0),
    cells: unchanged("OtherAccount")
  },
  "import, where an import was": {
    given: takeOver("one"),
    run: takeOver("two"),
    cells: same("Updated", "idle", "two", "one")
  },
  "import, with the pair that an import stored": {
    given: takeOver("one"),
    run: takeOver("one"),
    cells: unchanged("Unchanged")
  },
  "import of a pair that expires before the one that an import stored": {
    given: takeOver("one"),
    run: takeOver("zero", { accessTokenExpiresAt: 3_599_999 }),
    cells: unchanged("Unchanged")
  },
  "import of a pair that was issued before the one that an import stored": {
    given: takeOver("one", { issuedAt: 1001 }),
    run: takeOver("zero", { accessTokenExpiresAt: 3_600_001, issuedAt: 1000 }),
    cells: unchanged("Unchanged")
  },
  endSessions: {
    run: (storage, userUlid) => Effect.map(storage.endSessions(userUlid), String),
    cells: unchanged("true")
  },
  disconnect: {
    run: (storage, userUlid) =>
      Effect.gen(function* () {
        const gone = yield* storage.disconnect(userUlid)
        const late = yield* commit({})(storage, userUlid, 0)
        return `${gone}, then ${late}`
      }),
    cells: same("true, then Discarded", "gone")
  }
}

export const table = (storage: () => Fixture.Storage) => {
  for (const [event, { cells, given = connect("one"), run }] of Object.entries(events)) {
    describe(event, () => {
      for (const state of Object.keys(states) as ReadonlyArray<State>) {
        it.effect(state, () =>
          Effect.gen(function* () {
            const { calUserId, userUlid } = Fixture.newUser()
            yield* TestClock.adjust(Duration.days(1))
            yield* given(storage(), userUlid, calUserId)
            yield* states[state](storage(), userUlid)
            const answer = yield* run(storage(), userUlid, calUserId)
            const row = yield* storage().find(userUlid)
            const after = yield* Fixture.observe(storage(), userUlid)
            const pairs = Option.match(row, { onNone: () => [], onSome: Fixture.names })
            assert.deepStrictEqual([answer, after, ...pairs], [...cells[state]])
          })
        )
      }
    })
  }
}
