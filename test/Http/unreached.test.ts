/** A Cal.com that nobody listens at: callers are told that, and the log which address was tried. */
import { assert, it, vi } from "@effect/vitest"
import { Clock, Effect, Layer, Logger } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as NodeHttp from "../../src/CalHttp/Node.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import type { Line } from "../support/ActionsFakes.js"
import * as HttpWorld from "../support/HttpWorld.js"
import { freePort } from "../support/Ports.js"
import * as World from "../support/World.js"

const serviceAt = (apiUrl: string) =>
  CalApi.layer.pipe(
    Layer.provideMerge(CalTokens.layer),
    Layer.provideMerge(CalClient.layer({ ...World.clientOptions(), apiUrl })),
    Layer.provide(Layer.fresh(Layer.merge(NodeHttp.layerApiHttp, NodeHttp.layerTokenHttp))),
    Layer.provide(TokenConfig.layer({ memoryMaxEntries: 1000 })),
    Layer.provideMerge(layerMemory)
  )

const ask = (method: "POST" | "PUT", path: string, body: object) =>
  HttpWorld.call({ method, path: `/api/cal/${path}`, key: HttpWorld.keys.all, body })

/** As long as its token lives, in seconds. */
const connect = (userUlid: string | undefined, lives: number) =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    ask("PUT", `connections/${userUlid}`, {
      kind: "oauth2",
      accessToken: "an-access-token-of-this-user",
      refreshToken: `a-refresh-token-of-${userUlid}`,
      accessTokenExpiresAt: now + lives * 1000
    })
  )

it.live("a failure says that Cal.com was not reached, and its one line in the log where it was looked for", () =>
  Effect.gen(function* () {
    const port = yield* Effect.promise(freePort)
    const lines: Array<Line> = []
    const logger = Logger.make(({ annotations, logLevel, message }) => {
      lines.push({ level: logLevel.label, message: String(message), annotations: Object.fromEntries(annotations) })
    })
    const isFailure = (line: Line) => line.annotations["code"] === "CalUnavailable"
    const expected = {
      "server.address": "127.0.0.1",
      "server.port": port,
      tried: `http://127.0.0.1:${port} (set by apiUrl)`
    }
    /** What the caller is told, and the one line about it. */
    const outcome = <E, R>(asking: Effect.Effect<Effect.Effect.Success<ReturnType<typeof HttpWorld.call>>, E, R>) =>
      Effect.gen(function* () {
        lines.length = 0
        const { json, status } = yield* asking
        const [line, ...others] = lines.filter(isFailure)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(line?.annotations, expected)
        assert.notInclude(JSON.stringify(json), String(port))
        return { status, error: json["error"], line: line?.message }
      })

    yield* Effect.gen(function* () {
      const [expired, valid, soon, other] = World.users(4)
      yield* Effect.all([connect(expired, -60), connect(valid, 3000), connect(soon, 120)])

      const refused = (operation: string, more = "") =>
        `Cal.com is unavailable (${operation}: connection refused${more}): try again later.`
      const ensured = yield* outcome(ask("POST", "ensure-token", { userUlid: expired }))
      assert.deepStrictEqual(ensured, { status: 503, error: refused("refresh"), line: refused("refresh") })

      const asked = yield* outcome(ask("POST", `proxy/${valid}/bookings`, {}))
      assert.deepStrictEqual([asked.status, asked.error], [503, refused("POST /bookings")])

      const { json } = yield* ask("POST", "oauth/authorize-url", { userUlid: other })
      const returned = { userUlid: other, state: json["state"], code: "a-code-of-cal-com" }
      const exchanged = yield* outcome(ask("POST", "oauth/exchange", returned))
      const again = "; the state is used up, so start again with a new authorize URL"
      assert.deepStrictEqual([exchanged.status, exchanged.error], [503, refused("exchange", again)])

      const created = { userUlid: other, email: "ada@example.com", name: "Ada" }
      const managed = yield* outcome(ask("POST", "managed-users", created))
      assert.deepStrictEqual([managed.status, managed.error], [503, refused("createManagedUser")])

      // Nobody waits for this one: the token goes on.
      lines.length = 0
      assert.strictEqual((yield* ask("POST", "ensure-token", { userUlid: soon })).status, 200)
      yield* Effect.promise(() => vi.waitUntil(() => lines.some(isFailure), { timeout: 10_000 }))
      const [line] = lines.filter(isFailure)
      assert.strictEqual(line?.message, "Refresh failed")
      assert.deepInclude(line?.annotations, { ...expected, userUlid: soon, error: refused("refresh") })
    }).pipe(Effect.provide(HttpWorld.layerOn(serviceAt(`http://127.0.0.1:${port}/v2`), { logger })))
  })
)
