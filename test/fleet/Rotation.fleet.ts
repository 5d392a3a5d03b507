/** Encryption keys that are replaced while four processes serve: each step has processes of the old and of the new order. */
import { randomBytes } from "node:crypto"
import { assert, describe, layer } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import { vi } from "vitest"
import { makeDatabase } from "../support/Postgres.js"
import { all200, Fleet, layer as layerFleet, routes } from "./Fleet.js"
import { type NoAnswer, type Node, patiently } from "./Node.js"
import { slowness } from "./Speed.js"
import { until } from "./Until.js"

vi.setConfig({ testTimeout: 180_000 * slowness })

const keyOf = (id: string) => `${id}:${randomBytes(32).toString("base64")}`
const [old, next] = [keyOf("old"), keyOf("next")]

const origin = "https://app.example.com"

/** Refreshes a user for certain. Whoever has just been refreshed too often keeps the stored token, and is tried again. */
const refresh = (node: Node, userUlid: string): Effect.Effect<void, NoAnswer> =>
  Effect.gen(function* () {
    const answer = yield* patiently(node.ask("POST", "/api/cal/refresh-token", { userUlid, forceRefresh: true }))
    all200([answer])
    if (answer.body["refreshed"] === true) return
    assert.isNumber(answer.body["retryAfter"])
    yield* Effect.sleep("50 millis")
    yield* refresh(node, userUlid)
  })

/** News travels by notification: soon, not before the writer's answer. Until then the older token is a right answer. */
const knows = (node: Node, userUlid: string, token: string) => {
  const answer = Effect.tap(node.ask("GET", `/api/cal/access-token/${userUlid}`), (answer) => all200([answer]))
  const isKnown = Effect.map(answer, ({ body }) => body["accessToken"] === token)
  return until("a process knows what another one stored", isKnown, Duration.seconds(5 * slowness))
}

/** As a page that holds the token. What Cal.com refused just now is not refreshed for it again at once, but known. */
const atoms = (node: Node, token: string) =>
  Effect.promise(async () => {
    const response = await fetch(`${node.url}/api/cal/atoms/refresh`, {
      headers: { authorization: `Bearer ${token}`, origin }
    })
    const { accessToken, code } = (await response.json()) as { readonly accessToken: string; readonly code?: string }
    if (code === "RefreshCoolingDown") return token
    assert.strictEqual(response.status, 200, code)
    return accessToken
  })

describe.each(routes)("$name", (route) => {
  describe.skipIf(route.isMissing)("a rotation", () => {
    layer(layerFleet({ route, database: makeDatabase, nodes: 0, speed: 10, databaseTimeout: 30 }), {
      excludeTestServices: true,
      timeout: Duration.seconds(90 * slowness)
    })((it) => {
      it.scoped("serves everybody from every process, and pages too, in the middle of either step", () =>
        Effect.gen(function* () {
          const { start } = yield* Fleet
          /** A process with these keys, and how it ends. */
          const startWith = (keys: string) =>
            Effect.gen(function* () {
              const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
              const settings = { CAL_TOKENS_ENCRYPTION_KEYS: keys, CAL_TOKENS_ALLOWED_ORIGINS: origin }
              const node = yield* Scope.extend(start(settings), scope)
              return { node, end: Effect.zipRight(node.kill("SIGTERM"), node.exit) }
            })
          const startTwo = (keys: string) =>
            Effect.all([startWith(keys), startWith(keys)], { concurrency: "unbounded" })

          /** By user: the tokens that pages hold, the present one last. */
          const pages = new Map<string, Array<string>>()
          const create = (node: Node, name: string) =>
            Effect.gen(function* () {
              const userUlid = `01ARZ3NDEKTSV4RRFFQ69G${String(pages.size).padStart(4, "0")}`
              const email = `${name}@fleet.example`
              const user = { userUlid, email, name, timeZone: "Europe/London" }
              all200([yield* node.ask("POST", "/api/cal/managed-users", user)])
              const read = yield* node.ask("GET", `/api/cal/access-token/${userUlid}`)
              pages.set(userUlid, [String(read.body["accessToken"])])
            })

          /** Each process refreshes each user; all others soon know the new token, and every older one. */
          const serves = (nodes: ReadonlyArray<Node>) =>
            Effect.forEach(
              pages,
              ([userUlid, tokens]) =>
                Effect.forEach(nodes, (writer) =>
                  Effect.gen(function* () {
                    yield* refresh(writer, userUlid)
                    const answer = yield* writer.ask("GET", `/api/cal/access-token/${userUlid}`)
                    all200([answer])
                    let present = String(answer.body["accessToken"])
                    assert.notInclude(tokens, present)
                    for (const node of nodes) yield* knows(node, userUlid, present)
                    for (const node of nodes) {
                      all200([yield* node.ask("GET", `/api/cal/proxy/${userUlid}/me`)])
                      for (const token of tokens.slice(-3)) assert.strictEqual(yield* atoms(node, token), present)
                      const renewed = yield* atoms(node, present)
                      if (renewed !== present) tokens.push(present)
                      present = renewed
                    }
                    tokens.push(present)
                  })
                ),
              { concurrency: "unbounded", discard: true }
            )

          const oldOnly = yield* startTwo(old)
          const both = yield* startTwo(`${old},${next}`)
          for (const { node } of [...oldOnly, ...both]) yield* create(node, `user ${pages.size}`.replace(" ", ""))
          yield* serves([...oldOnly, ...both].map(({ node }) => node))

          for (const { end } of oldOnly) yield* end
          const turned = yield* startTwo(`${next},${old}`)
          for (const { node } of turned) yield* create(node, `user ${pages.size}`.replace(" ", ""))
          yield* serves([...both, ...turned].map(({ node }) => node))

          for (const { end } of both) yield* end
          const [last] = yield* startTwo(`${next},${old}`)
          yield* serves([...turned, last].map(({ node }) => node))
          const { body } = yield* last.node.ask("GET", "/health/ready")
          assert.deepStrictEqual(body["missingKeys"], [])
        })
      )
    })
  })
})
