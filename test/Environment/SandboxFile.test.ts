import * as Fs from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as SandboxFile from "../../src/Environment/SandboxFile.js"
import { Sandbox } from "../../src/Sandbox.js"

const directory = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(join(tmpdir(), "cal-tokens-sandbox-"))),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true }))
)

it.scoped("whatever changes the sandbox is in the file when it is done", () =>
  Effect.gen(function* () {
    const path = yield* directory
    const file = Effect.promise(() => Fs.readFile(join(path, "cal.com.json"), "utf8"))
    const { sandbox, calUserId } = yield* Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const { calUserId } = yield* sandbox.grantOAuth2()
      return { sandbox, calUserId }
    }).pipe(Effect.provide(yield* Layer.build(SandboxFile.layer(path, {}))))
    for (const change of [
      sandbox.grantManaged(),
      sandbox.authorizationCode({ calUserId }),
      sandbox.expireAccessTokens(calUserId),
      sandbox.revokeRefreshTokens(calUserId),
      sandbox.deleteUser(calUserId)
    ]) {
      const before = yield* file
      yield* change
      const after = yield* file
      assert.notStrictEqual(after, before)
      assert.deepStrictEqual(JSON.parse(after), yield* sandbox.snapshot)
    }
  })
)
