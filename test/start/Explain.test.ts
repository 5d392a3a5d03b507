/** `cal-tokens explain` as it is run, on a real PostgreSQL. */
import * as Fs from "node:fs"
import { Effect, Layer, Redacted } from "effect"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import { keyOf, layerKeys } from "../support/Keys.js"
import { makeDatabase } from "../support/Postgres.js"
import * as Fixture from "../support/StorageFixture.js"
import { build, run } from "./Program.js"

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 })

let directory: string
beforeAll(() => {
  directory = build()
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

it("explain says what happened and why, of a user whom it is given in any spelling; of another one, that there is none", () =>
  Effect.gen(function* () {
    const url = yield* makeDatabase
    const { userUlid } = Fixture.newUser()
    yield* Effect.gen(function* () {
      const storage = yield* TokenStorage
      const history = { _tag: "Connected", process: "p0", token: "aaaaaaaa", isGranted: true } as const
      yield* storage.connect({ userUlid, connection: Fixture.oauth(7), pair: Fixture.pair("one"), history })
      yield* storage.claim(Fixture.claimOf(userUlid))
      const steps = [{ as: "own", token: "aaaaaaaa", answer: "rejected", status: 400, refusal: "revoked" } as const]
      const refused = Fixture.attempted("one", { steps, end: "terminal" })
      yield* storage.fail({ userUlid, attemptId: "mine", failure: Fixture.terminal(), history: refused })
    }).pipe(
      Effect.provide(
        Postgres.layer().pipe(Layer.provide(Postgres.layerConnection({ url })), Layer.provide(layerKeys()))
      )
    )
    const env = {
      DATABASE_URL: Redacted.value(url),
      CAL_OAUTH_CLIENT_ID: "oauth",
      CAL_OAUTH_CLIENT_SECRET: "SECRET-of-the-client",
      CAL_OAUTH_REDIRECT_URL: "https://app.example.com/back",
      CAL_TOKENS_ENCRYPTION_KEYS: keyOf("k1", 1)
    }
    const explain = (user: string) => run(directory, ["dist/program.mjs", "explain", user], env)
    const known = explain(userUlid.toLowerCase())
    assert.strictEqual(yield* Effect.promise(() => known.exit), 0, known.stderr())
    const instant = "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z"
    assert.match(
      known.stdout(),
      new RegExp(
        [
          `^${instant}  Connected: Cal\\.com granted refresh token aaaaaaaa to process p0\\.`,
          `${instant}  Process p1 sent refresh token aaaaaaaa: refused \\(400, forgotten\\)\\. The user has to reconnect\\.`,
          "",
          `Asked to reconnect since ${instant} because a refresh token that this service never spent was refused at ` +
            `${instant}: another system refreshes this user, or the person removed the access\\.`,
          "Let the person consent again: .*",
          "\\(anotherSystemOrPerson\\)\n$"
        ].join("\n")
      )
    )
    const nobody = Fixture.newUser()
    for (const [user, code, words] of [
      [nobody.userUlid, 1, /^cal-tokens: User \w{26} has no Cal\.com connection: connect one first\.\n$/],
      ["nobody", 2, /^cal-tokens: <user> must be a ULID[^\n]* \(cal-tokens explain --help\)\n$/]
    ] as const) {
      const unknown = explain(user)
      assert.strictEqual(yield* Effect.promise(() => unknown.exit), code)
      assert.match(unknown.stderr(), words)
      assert.strictEqual(unknown.stdout(), "")
    }
  }).pipe(Effect.scoped, Effect.runPromise))
