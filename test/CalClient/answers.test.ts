/** Odd answers of a token endpoint, over real sockets: no new refresh token in them is lost. */
import * as Net from "node:net"
import * as Zlib from "node:zlib"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as CalClient from "../../src/CalClient.js"
import * as CalClientNode from "../../src/CalHttp/Node.js"
import * as OtherHttp from "../support/OtherHttp.js"
import { fields, type Kind, token, without } from "../support/TokenAnswers.js"

type Connection = Parameters<(typeof CalClient.CalClient.Service)["refresh"]>[0]
const connections: Readonly<Record<Kind, Connection>> = {
  managed: { _tag: "ManagedUser", clientId: "C", calUserId: 7 },
  oauth2: { _tag: "OAuth2", clientId: "K", calUserId: 7 }
}

const stored = {
  accessToken: Redacted.make("stored-access"),
  refreshToken: Redacted.make("sent-refresh"),
  accessTokenExpiresAt: 1000
}

/** What a server does with the connection once a request has begun to arrive. */
type Answer = (socket: Net.Socket) => void

const listen = (answer: Answer) =>
  Effect.acquireRelease(
    Effect.async<{ readonly port: number; readonly sockets: ReadonlyArray<Net.Socket>; readonly server: Net.Server }>(
      (resume) => {
        const sockets: Array<Net.Socket> = []
        const server = Net.createServer((socket) => {
          sockets.push(socket)
          socket.on("error", () => undefined)
          socket.once("data", () => answer(socket))
        })
        server.listen(0, "127.0.0.1", () => {
          const address = server.address()
          resume(
            address === null || typeof address === "string"
              ? Effect.dieMessage("no port")
              : Effect.succeed({ port: address.port, sockets, server })
          )
        })
      }
    ),
    ({ server, sockets }) =>
      Effect.sync(() => {
        sockets.forEach((socket) => socket.destroy())
        server.close()
      })
  )

const clients = [
  ["undici", CalClientNode.layerTokenHttp],
  ["fetch", OtherHttp.fetch]
] as const

const refresh = (answer: Answer, kind: Kind, http: (typeof clients)[number][1]) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { port } = yield* listen(answer)
      const client = CalClient.layer({
        apiUrl: `http://127.0.0.1:${port}/v2`,
        managed: { clientId: "C", clientSecret: Redacted.make("s") },
        oauth2: { clientId: "K", clientSecret: Redacted.make("s") }
      })
      return yield* Effect.flatMap(CalClient.CalClient, (client) =>
        client.refresh(connections[kind], Redacted.make("sent-refresh"), { stored })
      ).pipe(Effect.either, Effect.provide(Layer.provide(client, http)))
    })
  )

const head = (headers: Readonly<Record<string, string | number>>) =>
  `HTTP/1.1 200 OK\r\n${Object.entries({ "content-type": "application/json", ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("")}\r\n`

const bytesOf = (body: unknown) => Buffer.from(typeof body === "string" ? body : JSON.stringify(body))

/** A whole answer. */
const send =
  (body: unknown, headers: Readonly<Record<string, string>> = {}): Answer =>
  (socket) => {
    const bytes = Buffer.isBuffer(body) ? body : bytesOf(body)
    socket.end(Buffer.concat([Buffer.from(head({ "content-length": bytes.length, ...headers })), bytes]))
  }

const chunk = (bytes: Uint8Array) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")])

// Of now, because this clock is the machine's.
const issuedAt = new Date().getTime()
const access = { managed: token("managed", "access", {}, issuedAt), oauth2: token("oauth2", "access", {}, issuedAt) }
const next = { managed: token("managed", "refresh", {}, issuedAt), oauth2: token("oauth2", "refresh", {}, issuedAt) }

const managed = {
  ...fields.managed("managed"),
  accessToken: access.managed,
  refreshToken: next.managed,
  accessTokenExpiresAt: issuedAt + 3_540_000
}
const m = (changes: object = {}) => ({ status: "success", data: { ...managed, ...changes } })
const o = (changes: object = {}) => ({
  ...fields.oauth2("oauth2"),
  access_token: access.oauth2,
  refresh_token: next.oauth2,
  ...changes
})
const camel = { accessToken: access.oauth2, refreshToken: next.oauth2 }
const snake = { access_token: access.managed, refresh_token: next.managed, expires_in: 1800 }

/** The answer up to the end of its refresh token. */
const text = JSON.stringify(o())
const cut = text.slice(0, text.indexOf(next.oauth2) + next.oauth2.length + 1)

for (const [name, http] of clients) {
  describe(`with ${name}, the pair is granted`, () => {
    it.scopedLive.each<readonly [what: string, kind: Kind, body: unknown]>([
      ["without expires_in", "oauth2", without(o(), "expires_in")],
      ["with expires_in as text", "oauth2", o({ expires_in: "1800" })],
      ["with expires_in 0", "oauth2", o({ expires_in: 0 })],
      ["with expires_in null", "oauth2", o({ expires_in: null })],
      ["under data", "oauth2", { data: o() }],
      ["in the other contract's spelling", "oauth2", { ...camel, expires_in: 1800 }],
      ["in the other contract's form", "oauth2", { data: camel }],
      ["in the other contract's spelling", "managed", { data: snake }],
      ["in the other contract's form", "managed", snake],
      ["without accessTokenExpiresAt", "managed", { data: without(managed, "accessTokenExpiresAt") }],
      [
        "with accessTokenExpiresAt as ISO text",
        "managed",
        m({ accessTokenExpiresAt: new Date(issuedAt + 3e6).toISOString() })
      ]
    ])("%s (%s)", ([, kind, body]) =>
      Effect.gen(function* () {
        const result = yield* refresh(send(body), kind, http)
        assert(result._tag === "Right")
        assert.strictEqual(Redacted.value(result.right.pair.refreshToken), next[kind])
        assert.isAbove(result.right.pair.accessTokenExpiresAt, issuedAt + 290_000)
        assert.strictEqual(result.right.news, "pair")
      })
    )

    for (const [encoding, encode] of [
      ["gzip", Zlib.gzipSync],
      ["br", Zlib.brotliCompressSync],
      ["deflate", Zlib.deflateSync]
    ] as const) {
      it.scopedLive.each([`content-encoding: ${encoding}`, "no header"])(`in ${encoding}, unasked, with %s`, (header) =>
        Effect.gen(function* () {
          for (const [kind, body] of [
            ["managed", m()],
            ["oauth2", o()]
          ] as const) {
            const headers = header === "no header" ? {} : { "content-encoding": encoding }
            const result = yield* refresh(send(encode(bytesOf(body)), headers), kind, http)
            assert(result._tag === "Right")
            assert.strictEqual(Redacted.value(result.right.pair.refreshToken), next[kind])
          }
        })
      )
    }

    it.scopedLive.each<readonly [how: string, answer: Answer]>([
      ["is closed", (socket) => socket.end(head({ "content-length": 5000 }) + cut)],
      ["is dropped", (socket) => socket.write(head({ "content-length": 5000 }) + cut, () => socket.destroy())],
      [
        "is closed between chunks",
        (socket) =>
          socket.end(Buffer.concat([Buffer.from(head({ "transfer-encoding": "chunked" })), chunk(Buffer.from(cut))]))
      ],
      [
        "is closed within a chunk",
        (socket) => {
          const whole = Buffer.concat([chunk(Buffer.from(cut)), Buffer.from("ffff\r\n,")])
          socket.end(Buffer.concat([Buffer.from(head({ "transfer-encoding": "chunked" })), whole]))
        }
      ],
      [
        "is closed after many chunks",
        (socket) => {
          const chunks = [...Buffer.from(cut)].map((byte) => chunk(Uint8Array.of(byte)))
          socket.end(Buffer.concat([Buffer.from(head({ "transfer-encoding": "chunked" })), ...chunks]))
        }
      ]
    ])("when the connection %s after the refresh token", ([, answer]) =>
      Effect.gen(function* () {
        // More than once: whether bytes or the end are seen first is for the event loop.
        for (let i = 0; i < 10; i++) {
          const result = yield* refresh(answer, "oauth2", http)
          assert(result._tag === "Right")
          assert.strictEqual(Redacted.value(result.right.pair.refreshToken), next.oauth2)
          assert.include(result.right.departures, "cutOff")
        }
      })
    )

    it.scopedLive("when the answer stalls after the refresh token", () =>
      Effect.gen(function* () {
        const result = yield* refresh(
          (socket) => void socket.write(head({ "content-length": 5000 }) + cut),
          "oauth2",
          http
        )
        assert(result._tag === "Right")
        assert.strictEqual(Redacted.value(result.right.pair.refreshToken), next.oauth2)
      })
    )

    it.scopedLive("when the answer does not end, and no more than a mebibyte of it is read", () =>
      Effect.gen(function* () {
        const closed = yield* Effect.makeLatch()
        const padding = Buffer.alloc(64 * 1024, "x")
        const answer: Answer = (socket) => {
          socket.on("close", () => closed.unsafeOpen())
          socket.write(head({}) + cut + ',"padding":"')
          const go = () => {
            while (!socket.destroyed && socket.write(padding));
          }
          socket.on("drain", go)
          go()
        }
        const result = yield* refresh(answer, "oauth2", http)
        assert(result._tag === "Right")
        yield* closed.await
      })
    )

    it.scopedLive("without an access token, beside the stored one", () =>
      Effect.gen(function* () {
        const result = yield* refresh(send(without(o(), "access_token")), "oauth2", http)
        assert(result._tag === "Right")
        const { news, pair } = result.right
        assert.strictEqual(news, "refreshToken")
        assert.strictEqual(Redacted.value(pair.refreshToken), next.oauth2)
        assert.strictEqual(Redacted.value(pair.accessToken), "stored-access")
        assert.strictEqual(pair.accessTokenExpiresAt, 1000)
      })
    )
  })

  describe(`with ${name}, the answer is kept`, () => {
    it.scopedLive.each<readonly [what: string, body: unknown, drift: string]>([
      [
        "that names another user",
        o({
          access_token: token("oauth2", "access", { userId: 8 }, issuedAt),
          refresh_token: token("oauth2", "refresh", { userId: 8 }, issuedAt)
        }),
        "secondUser"
      ],
      ["that holds no pair", { status: "success", session: { token: access.oauth2 } }, "now"],
      ["that is a page", "<html>Back soon</html>", "secondUser"]
    ])("%s", ([, body, drift]) =>
      Effect.gen(function* () {
        const result = yield* refresh(send(body), "oauth2", http)
        assert(result._tag === "Left" && result.left._tag === "Unreadable")
        assert.strictEqual(result.left.answer.drift, drift)
        assert.deepStrictEqual(Buffer.from(Redacted.value(result.left.answer.bytes)), bytesOf(body))
      })
    )
  })
}
