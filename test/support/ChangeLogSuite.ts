/** What every log of changes has to do, on the test clock. Each test has users of its own; the log is all tests'. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Scope, TestClock } from "effect"
import { afterAll, beforeAll } from "vitest"
import type { UserUlid } from "../../src/Token.js"
import { type AttemptFailure, TokenStorage } from "../../src/TokenStorage.js"
import type { Cursor, Page } from "../../src/TokenStorage/ChangeLog.js"
import * as Fixture from "./StorageFixture.js"

export const suite = <E>(name: string, layer: Layer.Layer<TokenStorage, E>) => {
  describe(name, () => {
    const scope = Effect.runSync(Scope.make())
    let built: Fixture.Storage | undefined
    const storage = (): Fixture.Storage => {
      if (built === undefined) throw new Error("the storage is not built")
      return built
    }
    beforeAll(async () => {
      built = Context.get(await Effect.runPromise(Layer.buildWithScope(layer, scope)), TokenStorage)
    }, 300_000)
    afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    changes(storage)
    reading(storage)
    transitions(storage)
  })
}

const get = (page: Option.Option<Page>) => Option.getOrThrowWith(page, () => new Error("the position is not known"))

/** Everything from a cursor on, in pages. */
export const readAll = (storage: Fixture.Storage, from: Cursor, limit = 100) =>
  Effect.gen(function* () {
    const all: Array<Page["changes"][number]> = []
    let cursor = from
    while (true) {
      const page = get(yield* storage.log.read(cursor, limit))
      all.push(...page.changes)
      cursor = page.next
      if (page.changes.length < limit) return { changes: all, next: cursor, position: page.position }
    }
  })

/** What a test asserts of a change. */
const short = ({ kind, reauthorized }: Page["changes"][number]) => (reauthorized ? `${kind}, back` : kind)

/** A user, where the log ended before it, and what the log says of it. */
const connected = (storage: Fixture.Storage) =>
  Effect.gen(function* () {
    yield* TestClock.adjust(Duration.days(30))
    const start = yield* storage.log.end
    const { calUserId, userUlid } = Fixture.newUser()
    const connection = Fixture.managed(calUserId)
    const row = yield* storage.connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} one`) })
    const attempt = (attemptId = "mine") =>
      storage.claim(Fixture.claimOf(userUlid, { attemptId, purpose: Fixture.reissue(calUserId) }))
    const fail = (failure: AttemptFailure) => storage.fail({ userUlid, attemptId: "mine", failure })
    const terminal = Effect.zipRight(attempt(), fail(Fixture.terminal([Fixture.refreshHash(`${userUlid} one`)])))
    const commit = (extra: Parameters<typeof Fixture.commitOf>[2] = {}) =>
      storage.commit(
        Fixture.commitOf(userUlid, connection, {
          pair: Fixture.pair(`${userUlid} two`),
          seen: Fixture.refreshHash(`${userUlid} one`),
          ...extra
        })
      )
    const told = Effect.map(readAll(storage, start), ({ changes }) => changes)
    const kinds = Effect.map(told, (changes) => changes.map(short))
    return { start, userUlid, calUserId, connection, row, attempt, fail, terminal, commit, told, kinds }
  })

const changes = (storage: () => Fixture.Storage) => {
  it.effect("every kind of change is logged once, with its instant and version, also when a write is repeated", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      const { userUlid } = user
      yield* user.attempt()
      yield* user.commit()
      yield* user.commit()
      yield* user.attempt()
      yield* user.commit({ pair: Fixture.pair(`${userUlid} three`), reissued: true })
      yield* user.commit({ pair: Fixture.pair(`${userUlid} three`), reissued: true })
      yield* Fixture.update(storage(), userUlid, Fixture.pair(`${userUlid} four`))
      const now = (yield* storage().find(userUlid)).pipe(Option.getOrThrow)
      yield* TestClock.adjust(5)
      yield* user.attempt()
      yield* user.fail(
        Fixture.terminal(["one", "two", "three", "four"].map((n) => Fixture.refreshHash(`${userUlid} ${n}`)))
      )
      yield* user.fail(Fixture.terminal())
      assert.isTrue(yield* storage().disconnect(userUlid))
      assert.isFalse(yield* storage().disconnect(userUlid))
      const told = yield* user.told
      assert.deepStrictEqual(told.map(short), [
        "connected",
        "refreshed",
        "reissued",
        "updated",
        "reauthorizationRequired",
        "disconnected, back"
      ])
      const [, , , updated, required, disconnected] = told
      assert.deepInclude(updated, { userUlid, at: now.updatedAt, version: now.version, cause: undefined })
      assert.deepInclude(required, { at: now.updatedAt + 5, cause: "revoked", since: now.updatedAt + 5 })
      assert.deepInclude(disconnected, { userUlid, version: undefined, since: undefined })
      assert.notInclude(JSON.stringify(told), "access-")
    })
  )

  it.effect("what changes nothing for readers is not logged", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      yield* user.attempt()
      yield* user.fail(Fixture.released())
      yield* user.attempt()
      yield* user.fail(Fixture.notSpent())
      yield* user.attempt()
      yield* user.fail(Fixture.unknown(0))
      yield* user.attempt("other")
      yield* user.commit({ attemptId: "late", seen: "another" })
      yield* user.fail(Fixture.terminal([]))
      yield* Effect.flip(
        storage().connect({
          userUlid: Fixture.newUser().userUlid,
          connection: user.connection,
          pair: Fixture.pair("refused")
        })
      )
      assert.deepStrictEqual(yield* user.kinds, ["connected"])
    })
  )

  it.effect("an account that is taken from another user is gone there, and connected here", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      const { userUlid } = Fixture.newUser()
      const request = { userUlid, connection: user.connection, pair: Fixture.pair(`${userUlid} x`), replace: true }
      yield* storage().connect(request)
      const told = (yield* user.told).map((change) => [change.userUlid, change.kind])
      assert.deepStrictEqual(told, [
        [user.userUlid, "connected"],
        [user.userUlid, "disconnected"],
        [userUlid, "connected"]
      ])
    })
  )

  it.effect("the need to reconnect ends with a new pair of any origin, and that is said once", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      const { connection, userUlid } = user
      yield* user.terminal
      yield* user.commit({ attemptId: "late" })
      yield* user.commit({ attemptId: "late" })
      yield* user.attempt()
      yield* user.fail(Fixture.terminal(["one", "two"].map((n) => Fixture.refreshHash(`${userUlid} ${n}`))))
      const kept = { attemptId: "late", seen: "another", pair: Fixture.pair(`${userUlid} three`) }
      yield* user.commit(kept)
      yield* user.commit(kept)
      yield* user.attempt()
      yield* user.fail(Fixture.terminal(["two", "three"].map((n) => Fixture.refreshHash(`${userUlid} ${n}`))))
      yield* Fixture.update(storage(), userUlid, Fixture.pair(`${userUlid} four`))
      yield* user.attempt()
      const all = ["two", "three", "four"].map((n) => Fixture.refreshHash(`${userUlid} ${n}`))
      yield* user.fail(Fixture.terminal(all))
      // Still terminal: a reissue that fails is no transition.
      yield* user.attempt()
      yield* user.fail(Fixture.terminal(all))
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} five`) })
      yield* storage().connect({ userUlid, connection, pair: Fixture.pair(`${userUlid} five`) })
      const required = "reauthorizationRequired"
      assert.deepStrictEqual(yield* user.kinds, [
        ...["connected", required, "refreshed, back", required, "reauthorized, back", required, "updated, back"],
        ...[required, "connected, back", "connected"]
      ])
    })
  )
}

const reading = (storage: () => Fixture.Storage) => {
  it.effect("goes on where it was, in pages of any size, from any change", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      for (let n = 0; n < 6; n++) {
        yield* TestClock.adjust(1000)
        yield* Fixture.update(storage(), user.userUlid, Fixture.pair(`${user.userUlid} ${n}`))
      }
      const versions = (list: Page["changes"]) => list.map((change) => change.version)
      const all = yield* user.told
      assert.strictEqual(new Set(versions(all)).size, 7)
      for (const limit of [1, 2, 3, 7, 8]) {
        assert.deepStrictEqual(versions((yield* readAll(storage(), user.start, limit)).changes), versions(all))
      }
      for (const [index, { position }] of all.entries()) {
        const rest = yield* readAll(storage(), { position })
        assert.deepStrictEqual(versions(rest.changes), versions(all.slice(index + 1)))
        assert.deepStrictEqual((yield* readAll(storage(), { position: rest.position })).changes, [])
      }
      const { next } = yield* readAll(storage(), user.start)
      yield* storage().disconnect(user.userUlid)
      assert.deepStrictEqual((yield* readAll(storage(), next)).changes.map(short), ["disconnected"])
    })
  )

  it.effect("knows no position of another storage, of the future, or older than a day", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      const { position } = yield* readAll(storage(), user.start)
      const [at = "", epoch = ""] = position.split("-")
      const bad = [
        "",
        "x",
        "1-2",
        `${at}-${"9".repeat(19)}-0`,
        `${at}-${"9".repeat(30)}-0`,
        `${at}-${epoch}-${"9".repeat(30)}`
      ]
      for (const position of bad) {
        assert.isTrue(Option.isNone(yield* storage().log.read({ position }, 10)), position)
      }
      yield* Fixture.update(storage(), user.userUlid, Fixture.pair(`${user.userUlid} two`))
      yield* TestClock.adjust("24 hours")
      yield* Fixture.update(storage(), user.userUlid, Fixture.pair(`${user.userUlid} three`))
      assert.deepStrictEqual((yield* readAll(storage(), { position })).changes.map(short), ["updated", "updated"])
      yield* TestClock.adjust(1)
      assert.isTrue(Option.isNone(yield* storage().log.read({ position }, 10)))
    })
  )
}

/** Deliveries of all users, of whom a test cares about its own. */
const claimOf = (storage: Fixture.Storage, userUlid: UserUlid, holder = "me") =>
  Effect.map(storage.log.claim({ holder, lease: Duration.seconds(60), limit: 1000 }), (all) =>
    all.filter((one) => one.userUlid === userUlid)
  )

const transitions = (storage: () => Fixture.Storage) => {
  for (const how of ["is disconnected", "loses the account to another user"] as const) {
    it.effect(`who ${how} need not reconnect any more`, () =>
      Effect.gen(function* () {
        const { connection, kinds, terminal, userUlid } = yield* connected(storage())
        yield* terminal
        if (how === "is disconnected") yield* storage().disconnect(userUlid)
        else {
          const other = Fixture.newUser().userUlid
          yield* storage().connect({ userUlid: other, connection, pair: Fixture.pair(`${other} x`), replace: true })
        }
        assert.deepStrictEqual((yield* kinds).slice(1, 3), ["reauthorizationRequired", "disconnected, back"])
        const [required] = yield* claimOf(storage(), userUlid)
        assert(required?.kind === "reauthorizationRequired")
        yield* storage().log.settle(required.id)
        const [over, ...none] = yield* claimOf(storage(), userUlid)
        const { cause, since } = required
        assert.deepInclude(over, { kind: "reauthorized", cause, since })
        assert.deepStrictEqual(none, [])
      })
    )
  }

  it.effect("who need not reconnect is disconnected without a word about that", () =>
    Effect.gen(function* () {
      const { kinds, userUlid } = yield* connected(storage())
      yield* storage().disconnect(userUlid)
      assert.deepStrictEqual(yield* kinds, ["connected", "disconnected"])
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [])
    })
  )

  it.effect("of an imported user tells when that was, and of nobody else, nor once it is over", () =>
    Effect.gen(function* () {
      const { connection, told, ...user } = yield* connected(storage())
      const { userUlid } = user
      yield* storage().disconnect(userUlid)
      const pair = Fixture.pair(`${userUlid} one`)
      yield* storage().import([{ userUlid, connection, pair }])
      const importedAt = (yield* told).at(-1)?.at
      assert(importedAt !== undefined)
      yield* TestClock.adjust(1000)
      yield* user.terminal
      const [required] = yield* claimOf(storage(), userUlid)
      assert.deepInclude(required, { kind: "reauthorizationRequired", importedAt })
      yield* storage().log.settle(required?.id ?? "")
      yield* Fixture.update(storage(), userUlid, Fixture.pair(`${userUlid} two`))
      const [over] = yield* claimOf(storage(), userUlid)
      assert.deepInclude(over, { kind: "reauthorized" })
      assert.notProperty(over, "importedAt")
    })
  )

  it.effect("both ways are to be delivered, of a user one after the other, under a name that stays", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      const { userUlid } = user
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [])
      yield* user.terminal
      const since = (yield* user.told)[1]?.at ?? 0
      yield* TestClock.adjust(1000)
      yield* Fixture.update(storage(), userUlid, Fixture.pair(`${userUlid} two`))
      const [first, ...none] = yield* claimOf(storage(), userUlid)
      assert(first !== undefined)
      assert.deepStrictEqual(none, [])
      const said = { userUlid, cause: "revoked", since } as const
      assert.deepStrictEqual(first, { ...said, id: first.id, kind: "reauthorizationRequired", at: since, attempt: 1 })
      assert.match(first.id, /^[0-9a-f-]{36}$/)

      // Somebody holds it, and the later one waits behind it.
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid, "other"), [])
      yield* TestClock.adjust(59_999)
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid, "other"), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid, "other"), [{ ...first, attempt: 2 }])

      // Who lost it does not postpone it; who holds it does.
      yield* storage().log.postpone({ id: first.id, holder: "me", delay: Duration.zero })
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [])
      yield* storage().log.postpone({ id: first.id, holder: "other", delay: Duration.hours(1) })
      yield* TestClock.adjust(3_599_999)
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [{ ...first, attempt: 3 }])

      yield* storage().log.settle(first.id)
      const [second] = yield* claimOf(storage(), userUlid)
      assert(second !== undefined)
      assert.deepStrictEqual(second, { ...said, id: second.id, kind: "reauthorized", at: since + 1000, attempt: 1 })
      assert.notStrictEqual(second.id, first.id)
      yield* storage().log.settle(second.id)
      yield* storage().log.settle(second.id)
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(yield* claimOf(storage(), userUlid), [])
    })
  )

  it.effect("one that nobody delivers outlives the log, and its user", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      yield* user.terminal
      yield* storage().disconnect(user.userUlid)
      yield* TestClock.adjust(Duration.days(6))
      yield* connectedNow(storage())
      assert.lengthOf(yield* claimOf(storage(), user.userUlid), 1)
    })
  )

  it.effect("of many claims at once, one gets it", () =>
    Effect.gen(function* () {
      const user = yield* connected(storage())
      yield* user.terminal
      const all = yield* Effect.all(
        ["a", "b", "c", "d", "e", "f"].map((holder) => claimOf(storage(), user.userUlid, holder)),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(all.flat(), 1)
    })
  )
}

const connectedNow = (storage: Fixture.Storage) => {
  const { calUserId, userUlid } = Fixture.newUser()
  return storage.connect({ userUlid, connection: Fixture.managed(calUserId), pair: Fixture.pair(userUlid) })
}
