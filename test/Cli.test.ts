import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Redacted, TestClock } from "effect"
import * as CalApi from "../src/CalApi.js"
import * as CalClient from "../src/CalClient.js"
import * as CalTokens from "../src/CalTokens.js"
import * as Announcement from "../src/Cli/Announcement.js"
import * as Demo from "../src/Environment/Demo.js"
import * as SandboxFile from "../src/Environment/SandboxFile.js"
import * as Sandbox from "../src/Sandbox.js"
import * as TokenStorage from "../src/TokenStorage.js"
import { layerMemory } from "../src/TokenStorage/Memory.js"

const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-"))),
  (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
)

type Storage = TokenStorage.TokenStorage["Type"]

const options = { accessTokenLifetime: Demo.accessTokenLifetime }

/** One start of the demo on a storage. */
const demoOf = <E>(sandbox: Layer.Layer<Sandbox.Sandbox, E>, storage: Storage) =>
  Layer.merge(Demo.layerSeed, Demo.layerKeep).pipe(
    Layer.provideMerge(CalApi.layer),
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(CalClient.layer(Demo.clientOptions("http://127.0.0.1:4000"))),
    Layer.provide(Sandbox.layerHttpClient),
    Layer.provideMerge(sandbox),
    Layer.provide(Layer.succeed(TokenStorage.TokenStorage, storage))
  )

/** One that the next continues. */
const demo = (directory: string, storage: Storage) => demoOf(SandboxFile.layer(directory, options), storage)

const storage = Effect.provide(TokenStorage.TokenStorage, layerMemory)

/** One without a file: the test clock waits for no disk, and would run ahead of it. */
const demoOnce = Layer.unwrapEffect(Effect.map(storage, (storage) => demoOf(Sandbox.layer(options), storage)))

const users = [Demo.ada, Demo.ben, Demo.cem]

/** Cal.com's answer to each user's request, as statuses. */
const me = Effect.forEach(users, ({ userUlid }) =>
  Effect.gen(function* () {
    const api = yield* CalApi.CalApi
    const fiber = yield* Effect.fork(api.send(userUlid, { method: "GET", path: "/me" }))
    yield* TestClock.adjust(Duration.seconds(1))
    return (yield* Fiber.join(fiber)).status
  })
)

describe("the demo", () => {
  it.effect("connects three users and refreshes the one whose token runs out at once", () =>
    Effect.gen(function* () {
      const tokens = yield* CalTokens.CalTokens
      const sandbox = yield* Sandbox.Sandbox
      const kinds = yield* Effect.forEach(users, ({ userUlid }) =>
        Effect.map(tokens.info(userUlid), ({ connection, isExpired }) => [connection._tag, isExpired])
      )
      assert.deepStrictEqual(kinds, [
        ["ManagedUser", false],
        ["ManagedUser", false],
        ["OAuth2", false]
      ])
      yield* TestClock.adjust(Duration.seconds(2))
      assert.strictEqual(yield* sandbox.count("refresh"), 1)
      yield* TestClock.adjust(Duration.minutes(10))
      for (const { userUlid } of users) assert.isFalse((yield* tokens.info(userUlid)).isExpired)
      assert.deepStrictEqual(yield* me, [200, 200, 200])
    }).pipe(Effect.provide(demoOnce))
  )

  it.scoped("continues at the next start, also after its tokens have long expired", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const rows = yield* storage
      const start = Effect.provide(
        Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          return {
            me: yield* me,
            users: (yield* sandbox.snapshot).users.length,
            reissues: yield* sandbox.count("forceRefresh")
          }
        }),
        demo(directory, rows)
      )
      const first = yield* start
      assert.deepStrictEqual(first.me, [200, 200, 200])
      for (const pause of [Duration.zero, Duration.seconds(60), Duration.days(3)]) {
        yield* TestClock.adjust(pause)
        assert.deepStrictEqual(yield* start, { ...first, reissues: 0 })
      }
    })
  )

  it.scoped("connects users anew whose sandbox is gone", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const rows = yield* storage
      yield* Effect.provide(me, demo(directory, rows))
      Fs.rmSync(Path.join(directory, "cal.com.json"))
      assert.deepStrictEqual(yield* Effect.provide(me, demo(directory, rows)), [200, 200, 200])
    })
  )
})

describe("the sandbox's file", () => {
  it.scoped("holds what a request changed before its answer is out, for its owner only", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const path = Path.join(directory, "cal.com.json")
      const file = SandboxFile.layer(directory, {})
      const spend = Effect.gen(function* () {
        const sandbox = yield* Sandbox.Sandbox
        const client = yield* CalClient.CalClient
        const granted = yield* sandbox.grantOAuth2({ email: "x@demo.example" })
        const { pair } = yield* client.refresh(
          { _tag: "OAuth2", clientId: Sandbox.demoOAuth2.clientId },
          granted.refreshToken
        )
        // What a process that is killed now leaves behind.
        Fs.copyFileSync(path, `${path}.killed`)
        return { granted, pair }
      })
      const { granted, pair } = yield* Effect.provide(
        spend,
        CalClient.layer(Demo.clientOptions("http://127.0.0.1:4000")).pipe(
          Layer.provide(Sandbox.layerHttpClient),
          Layer.provideMerge(file)
        )
      )
      Fs.renameSync(`${path}.killed`, path)
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
      assert.deepStrictEqual(Fs.readdirSync(directory), ["cal.com.json"])
      const live = Effect.flatMap(Sandbox.Sandbox, (sandbox) =>
        Effect.all([sandbox.isLive(granted.refreshToken), sandbox.isLive(pair.refreshToken)])
      )
      assert.deepStrictEqual(yield* Effect.provide(live, file), [false, true])
    })
  )

  it.scoped("that makes no sense stops the start with one line", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      Fs.writeFileSync(Path.join(directory, "cal.com.json"), `{"version":1,"signingKey":"SECRET"}`)
      const error = yield* Effect.flip(Effect.scoped(Layer.build(SandboxFile.layer(directory, {}))))
      assert.match(error.message, /^The sandbox's state in .*cal\.com\.json cannot be read \(.*\): remove [^\n]*$/)
      assert.notInclude(error.message, "SECRET")
    })
  )
})

describe("the announcement", () => {
  it.effect("has four commands to paste, each a line of plain ASCII, the rest fit for 80 columns", () =>
    Effect.gen(function* () {
      const text = yield* Announcement.make({
        url: "http://127.0.0.1:4000",
        directory: ".data/sandbox",
        key: Redacted.make("k".repeat(32))
      })
      const lines = text.split("\n")
      assert.strictEqual(lines.filter((line) => line.startsWith("curl ")).length, 4)
      for (const line of lines) {
        assert.match(line, /^[\x20-\x7e]*$/)
        assert.isTrue(line.startsWith("curl ") || line.length <= 80, line)
      }
    }).pipe(Effect.provide(demoOnce))
  )
})
