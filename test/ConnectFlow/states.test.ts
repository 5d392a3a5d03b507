/** States as they come over the wire: those that somebody made up reach no database. */
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, type Scope, TestClock } from "effect"
import Pg from "pg"
import { vi } from "vitest"
import { FlowStorage } from "../../src/FlowStorage.js"
import { Sandbox } from "../../src/Sandbox.js"
import * as Flows from "../../src/TokenStorage/Postgres/Flows.js"
import * as Flow from "../support/FlowWorld.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import { layerDatabase } from "../support/Postgres.js"
import * as World from "../support/World.js"

const { user } = World
const { returnTo } = Flow

const [oldKey, newKey] = [keyOf("k1", 1), keyOf("k2", 2)]

/** Flows of processes with these keys, over one database, and how many statements they make. */
const processes = (keys: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = Context.get(yield* Layer.build(layerDatabase()), SqlClient.SqlClient)
    const flows = yield* Effect.forEach(keys, (ring) =>
      Effect.gen(function* () {
        const database = Layer.succeed(SqlClient.SqlClient, sql)
        const storage = Flows.layer({ clock: "effect" }).pipe(Layer.provide([database, layerKeys(ring)]))
        return yield* Effect.provideService(
          Flow.make(),
          FlowStorage,
          Context.get(yield* Layer.build(storage), FlowStorage)
        )
      })
    )
    return {
      flows,
      sql,
      /** Where the driver sends them. */
      counted: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.acquireUseRelease(
          Effect.sync(() => vi.spyOn(Pg.Client.prototype, "query")),
          (spy) => Effect.map(effect, (value) => ({ value, statements: spy.mock.calls.length })),
          (spy) => Effect.sync(() => spy.mockRestore())
        )
    }
  })

const stateOf = (url: string) => new URL(url).searchParams.get("state") ?? ""

/** What somebody may make of a state without a key. */
const forgeries = (state: string): ReadonlyArray<string> => {
  const [text = "", mac = ""] = state.split(".")
  const flipped = Array.from(
    state,
    (character, i) => `${state.slice(0, i)}${character === "A" ? "B" : "A"}${state.slice(i + 1)}`
  )
  const random = Array.from({ length: 3000 }, (_, i) => `${String(i).padStart(43, "x")}.${mac}`)
  return [
    ...flipped,
    ...random,
    ...["", ".", text, `${text}.`, `.${mac}`, mac, `${mac}.${text}`, `${state}.`, `${state}.x`, `${text}..${mac}`],
    ...[`${state}=`, ` ${state}`, state.toUpperCase(), "x".repeat(5000)]
  ]
}

/** On the test clock, which nobody moves while PostgreSQL works. */
const inWorld = (name: string, body: Effect.Effect<void, unknown, World.World | Scope.Scope>) =>
  it.scoped(name, () => Effect.provide(body, World.layer()))

describe("a state", () => {
  inWorld(
    "that was made up costs no statement, at either way back, and the right one still works",
    Effect.gen(function* () {
      const { counted, flows } = yield* processes([oldKey])
      const [flow] = flows
      assert(flow !== undefined)
      const begun = yield* counted(flow.begin(user(), { returnTo }))
      assert.strictEqual(begun.statements, 1)
      const query = yield* Flow.consent(begun.value.url)
      const forged = forgeries(stateOf(begun.value.url))
      assert.isAbove(forged.length, 3000)
      const { statements } = yield* counted(
        Effect.forEach(forged, (state) =>
          Effect.gen(function* () {
            const back = yield* flow.comeBack(new URLSearchParams({ code: "code", state }))
            assert.deepInclude(back, { _tag: "Stop", problem: "unknownState" }, state)
            yield* flow.comeBack(new URLSearchParams({ error: "access_denied", state }))
            yield* Effect.flip(flow.exchange(user(), { code: Redacted.make("code"), state: Redacted.make(state) }))
          })
        )
      )
      assert.strictEqual(statements, 0)
      const back = yield* counted(flow.comeBack(query))
      assert.strictEqual(back.statements, 2)
      yield* flow.confirm(user(), yield* Flow.completionOf(back.value))
      assert.isTrue(yield* World.isStoredPairLive())
    })
  )

  inWorld(
    "that was kept costs no statement once its flow must be over, nor does a completion, whatever the database says",
    Effect.gen(function* () {
      const { counted, flows, sql } = yield* processes([oldKey])
      const [flow] = flows
      assert(flow !== undefined)
      const [away, query] = yield* Effect.all([
        Effect.flatMap(flow.begin(user(), { returnTo }), ({ url }) => Flow.consent(url)),
        Effect.flatMap(flow.begin(user(), { returnTo }), ({ url }) => Flow.consent(url))
      ])
      const completion = yield* Effect.flatMap(flow.comeBack(query), Flow.completionOf)
      yield* sql`update cal_tokens.connect_flow set expires_at = 9e15`
      yield* TestClock.adjust("26 minutes")
      for (const kept of [away, query]) {
        const back = yield* counted(flow.comeBack(kept))
        assert.deepInclude(back, { statements: 0 })
        assert.deepInclude(back.value, { _tag: "Stop", problem: "unknownState" })
        const exchanged = yield* counted(Effect.flip(flow.exchange(user(), Flow.broughtBack(kept))))
        assert.deepStrictEqual([exchanged.statements, exchanged.value._tag], [0, "InvalidInput"])
      }
      for (const made of [completion, Redacted.make("made-up")]) {
        const confirmed = yield* counted(Effect.flip(flow.confirm(user(), made)))
        assert.deepStrictEqual([confirmed.statements, confirmed.value._tag], [0, "InvalidInput"])
      }
      const { count } = yield* Sandbox
      assert.strictEqual(yield* count("oauth2Code"), 0)
    })
  )

  inWorld(
    "is known to every process while keys are rotated, and to none without the key",
    Effect.gen(function* () {
      const rings = [oldKey, `${oldKey},${newKey}`, `${newKey},${oldKey}`]
      const { counted, flows } = yield* processes([...rings, newKey])
      const stranger = flows[3]
      assert(stranger !== undefined)
      for (const [begins, ends] of [
        [0, 1],
        [1, 0],
        [1, 2],
        [2, 1]
      ] as const) {
        const [first, second] = [flows[begins], flows[ends]]
        assert(first !== undefined && second !== undefined)
        const { url } = yield* first.begin(user(), { returnTo })
        const query = yield* Flow.consent(url)
        if (begins === 1) assert.strictEqual((yield* counted(stranger.comeBack(query))).statements, 0)
        const back = yield* second.comeBack(query)
        yield* first.confirm(user(), yield* Flow.completionOf(back))
      }
    })
  )
})
