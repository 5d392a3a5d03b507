/** User sessions: what is taken for one, and for how long. */
import { createHmac } from "node:crypto"
import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Either, JSONSchema, Layer, Option, Redacted, TestClock } from "effect"
import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose"
import { CreateSession } from "../src/Api/Sessions.js"
import { CalTokens } from "../src/CalTokens.js"
import * as Memory from "../src/CalTokens/Memory.js"
import * as KeyRing from "../src/KeyRing.js"
import { allows, type Session, type SessionOptions, Sessions } from "../src/Sessions.js"
import * as SessionsModule from "../src/Sessions.js"
import * as TokenConfig from "../src/TokenConfig.js"
import { Notice } from "../src/TokenStorage.js"
import * as Keys from "./support/Keys.js"
import { StorageTap } from "./support/StorageTap.js"
import * as World from "./support/World.js"

const one = Keys.keyOf("k1", 1)
const other = Keys.keyOf("k2", 2)

const ringOf = (keys: string) => KeyRing.make(Either.getOrThrow(KeyRing.parseKeys(Redacted.make(keys))))

/** The sessions of a process with these keys, on the tokens at hand. */
const sessionsOf = (keys = one) => Effect.provideService(SessionsModule.make, KeyRing.KeyRing, ringOf(keys))

const user = World.user()

const reveal = (session: Redacted.Redacted) => Redacted.value(session)

/** Whether it is taken: read, and not over. */
const isTaken = (sessions: (typeof Sessions)["Service"], session: Redacted.Redacted) =>
  Effect.flatMap(
    sessions.read(session),
    Option.match({ onNone: () => Effect.succeed(false), onSome: sessions.isCurrent })
  )

/** A user with a session, from a process with one key. */
const begun = (options?: SessionOptions) =>
  Effect.gen(function* () {
    const grant = yield* World.connectManaged()
    const sessions = yield* sessionsOf()
    const { expiresAt, session } = yield* sessions.create(user, options)
    const read = Option.getOrThrow(yield* sessions.read(session))
    return { grant, sessions, session, expiresAt, read, tokens: yield* CalTokens }
  })

describe("a session", () => {
  World.scenario(
    "is a JWS that says for whom, for what and until when, and no more",
    Effect.gen(function* () {
      const rules = { ttl: 60, methods: ["GET", "POST", "GET"], paths: ["/bookings", "/slots"] }
      const { expiresAt, read, session } = yield* begun(rules)
      const now = (yield* Clock.currentTimeMillis) / 1000
      assert.strictEqual(expiresAt, (now + 60) * 1000)
      assert.deepStrictEqual(decodeProtectedHeader(reveal(session)), {
        alg: "HS256",
        typ: "cal-tokens-session+jwt",
        kid: "k1"
      })
      const { after, ...claims } = decodeJwt(reveal(session))
      assert.deepStrictEqual(claims, {
        iss: "cal-tokens",
        aud: "cal-tokens/me",
        sub: user,
        iat: now,
        exp: now + 60,
        methods: ["GET", "POST"],
        paths: ["/bookings", "/slots"]
      })
      assert.deepStrictEqual(read, {
        userUlid: user,
        after: after as number,
        methods: ["GET", "POST"],
        paths: ["/bookings", "/slots"]
      })
      assert.notInclude(`${JSON.stringify(session)} ${inspect(session)}`, reveal(session).slice(0, 12))
    })
  )

  World.scenario(
    "lasts 15 minutes unless told otherwise, to the second",
    Effect.gen(function* () {
      const { expiresAt, session, sessions } = yield* begun()
      assert.strictEqual(expiresAt - (yield* Clock.currentTimeMillis), 15 * 60_000)
      yield* TestClock.adjust(15 * 60_000 - 1)
      assert.isTrue(yield* isTaken(sessions, session))
      yield* TestClock.adjust(1)
      assert.isFalse(yield* isTaken(sessions, session))
    })
  )

  World.scenario(
    "is for a user who is connected",
    Effect.gen(function* () {
      const sessions = yield* sessionsOf()
      assert.strictEqual((yield* Effect.flip(sessions.create(user)))._tag, "TokensNotFound")
    })
  )

  const refused: Record<string, ReadonlyArray<SessionOptions>> = {
    ttl: [0, -1, 1.5, 86_401, NaN, Infinity].map((ttl) => ({ ttl })),
    methods: [[], ["get"], ["GET", "TRACE"], ["CONNECT"], ["OPTIONS"], [""], ["__proto__"], ["toString"]].map(
      (methods) => ({ methods })
    ),
    paths: [
      ...[
        "",
        "/",
        "bookings",
        "/bookings/",
        "//bookings",
        "/bookings//x",
        "/./bookings",
        "/bookings/..",
        "/...",
        "/%62"
      ],
      ...[
        "/bookings?x",
        "/bookings#x",
        "/bookings;x",
        "/book ings",
        "/bookings\n",
        "\n/bookings",
        "/büchungen",
        "/a\\b"
      ],
      ...["https://api.cal.com/v2/bookings", "/bookings/*", "/@x", `/${"x".repeat(2048)}`]
    ]
      .map((path): SessionOptions => ({ paths: ["/slots", path] }))
      .concat({ paths: [] }, { paths: Array.from({ length: 33 }, () => "/x") })
  }
  for (const [field, all] of Object.entries(refused)) {
    World.scenario(
      `is not made with ${field} that mean nothing, or mean more than one thing`,
      Effect.gen(function* () {
        yield* World.connectManaged()
        const sessions = yield* sessionsOf()
        for (const options of all) {
          const error = yield* Effect.flip(sessions.create(user, options))
          assert(error._tag === "InvalidInput", JSON.stringify(options))
          assert.strictEqual(error.field, field, JSON.stringify(options))
        }
      })
    )
  }

  World.scenario(
    "fits into a header, whatever its rules",
    Effect.gen(function* () {
      const paths = Array.from({ length: 32 }, (_, n) => `/${String(n).padStart(63, "x")}`)
      const { read, session } = yield* begun({ paths, methods: SessionsModule.methods, ttl: 86_400 })
      assert.isBelow(reveal(session).length, 4096)
      assert.deepStrictEqual(read.paths, paths)
    })
  )
})

describe("what is no session", () => {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url")

  World.scenario(
    "of this service's making is not read",
    Effect.gen(function* () {
      const { read, session, sessions } = yield* begun()
      const text = reveal(session)
      const [header = "", payload = "", signature = ""] = text.split(".")
      const claims = decodeJwt(text)
      const key = Redacted.value(ringOf(one).sessionKeys[0].secret)
      const [, configured = ""] = one.split(":")
      const protect = { alg: "HS256", typ: "cal-tokens-session+jwt", kid: "k1" }
      const sign = (head: object, body: object, by: Uint8Array = key, hash = "sha256") => {
        const signed = `${encode(head)}.${encode(body)}`
        return `${signed}.${createHmac(hash, by).update(signed).digest("base64url")}`
      }
      // The attacker's tools work.
      assert.isTrue(Option.isSome(yield* sessions.read(Redacted.make(sign(protect, claims)))))

      const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
      const attacks: Record<string, ReadonlyArray<string>> = {
        nothing: ["", ".", "..", "...", "x", "Bearer", "null"],
        "another last letter": [...letters].map((it) => text.slice(0, -1) + it).filter((it) => it !== text),
        "a letter changed": Array.from(
          text,
          (letter, at) => text.slice(0, at) + (letter === "A" ? "B" : "A") + text.slice(at + 1)
        ),
        cut: Array.from(text, (_, at) => text.slice(0, at)),
        "something more": [
          `${text}=`,
          `${text}A`,
          ` ${text}`,
          `${text} `,
          `${text}.`,
          `${text}.x`,
          `${text}\n`,
          `.${text}`
        ],
        "no signature": [
          `${header}.${payload}.`,
          `${header}.${payload}`,
          `${encode({ ...protect, alg: "none" })}.${payload}.`
        ],
        "no algorithm": ["none", "None", "NONE", "nOnE", ""].flatMap((alg) => [
          `${encode({ ...protect, alg })}.${payload}.${signature}`,
          sign({ ...protect, alg }, claims)
        ]),
        "another algorithm": [
          sign({ ...protect, alg: "HS512" }, claims, key, "sha512"),
          sign({ ...protect, alg: "HS384" }, claims, key, "sha384"),
          sign({ ...protect, alg: "RS256" }, claims)
        ],
        "another key": [
          sign(protect, claims, Buffer.from(configured, "base64")),
          sign(protect, claims, Buffer.alloc(32)),
          sign(protect, claims, Buffer.alloc(0)),
          sign(protect, claims, Buffer.from("k1"))
        ],
        "the name of no key": [
          sign({ ...protect, kid: "k2" }, claims),
          sign({ alg: protect.alg, typ: protect.typ }, claims),
          sign({ ...protect, kid: null }, claims),
          sign({ ...protect, kid: ["k1"] }, claims),
          sign({ ...protect, kid: "__proto__" }, claims)
        ],
        "a key that comes along": [
          sign(
            { ...protect, jwk: { kty: "oct", k: Buffer.alloc(32).toString("base64url") } },
            claims,
            Buffer.alloc(32)
          ),
          sign({ ...protect, kid: "k1", jku: "https://evil.example/keys" }, claims, Buffer.alloc(32))
        ],
        "another type": ["JWT", "at+jwt", "", undefined].map((typ) => sign({ ...protect, typ }, claims)),
        "another audience or issuer": [
          { aud: "cal-tokens" },
          { aud: undefined },
          { aud: [] },
          { iss: "cal-tokens/me" },
          { iss: undefined }
        ].map((change) => sign(protect, { ...claims, ...change })),
        "no user or no end": [
          { sub: undefined },
          { sub: "" },
          { sub: "x" },
          { sub: 7 },
          { exp: undefined },
          { exp: "9999999999" },
          { iat: undefined }
        ].map((change) => sign(protect, { ...claims, ...change })),
        "rules of another kind": [
          { after: undefined },
          { after: "7" },
          { after: -1 },
          { methods: "GET" },
          { paths: "/" },
          { paths: [7] }
        ].map((change) => sign(protect, { ...claims, ...change })),
        "an extension": [
          sign({ ...protect, crit: ["x"], x: 1 }, claims),
          sign({ ...protect, b64: false, crit: ["b64"] }, claims)
        ],
        "the time of another day": [sign(protect, { ...claims, exp: World.epoch / 1000 })],
        "far too much": [sign(protect, { ...claims, padding: "x".repeat(10_000) }), "x.".repeat(1e6), "a".repeat(1e6)]
      }
      for (const [name, texts] of Object.entries(attacks)) {
        assert.isNotEmpty(texts)
        for (const attack of texts) {
          assert.isTrue(Option.isNone(yield* sessions.read(Redacted.make(attack))), `${name}: ${attack.slice(0, 300)}`)
        }
      }
      assert.strictEqual(read.userUlid, user)
    })
  )

  World.scenario(
    "is what other tools of the same keys make",
    Effect.gen(function* () {
      const { sessions } = yield* begun()
      const ring = ringOf(one)
      const code = ring.mac("flow", user)
      const sealed = yield* ring.seal({ userUlid: user, purpose: "token-pair" }, Redacted.make("x"))
      // A JWT of Cal.com's, signed with the secret of its own.
      const foreign = yield* Effect.promise(() =>
        new SignJWT({ type: "access_token", clientId: "c", ownerId: 1 })
          .setProtectedHeader({ alg: "HS256", typ: "JWT" })
          .sign(new Uint8Array(32))
      )
      for (const text of [code, sealed, `${code}.${code}.${code}`, foreign]) {
        assert.isTrue(Option.isNone(yield* sessions.read(Redacted.make(text))))
      }
    })
  )
})

describe("while keys rotate, sessions", () => {
  World.scenario(
    "are taken by processes that have the key, whatever its place, and by no others",
    Effect.gen(function* () {
      const { session, sessions } = yield* begun()
      const [oldOrder, newOrder, without] = [
        yield* sessionsOf(`${one},${other}`),
        yield* sessionsOf(`${other},${one}`),
        yield* sessionsOf(other)
      ]
      const fresh = (yield* newOrder.create(user)).session
      assert.strictEqual(decodeProtectedHeader(reveal(fresh)).kid, "k2")
      const taken = (session: Redacted.Redacted) =>
        Effect.forEach([sessions, oldOrder, newOrder, without], (each) => isTaken(each, session))
      assert.deepStrictEqual(yield* taken(session), [true, true, true, false])
      assert.deepStrictEqual(yield* taken(fresh), [false, true, true, true])
      // The same id with another key is another key.
      assert.isFalse(yield* isTaken(yield* sessionsOf(Keys.keyOf("k1", 9)), session))
    })
  )
})

describe("a session is for", () => {
  const session = (rules: Partial<Session>): Session => ({ userUlid: user, after: 1, ...rules })

  it("its methods, as they are written", () => {
    const isFor = (methods: ReadonlyArray<string> | undefined, method: string) =>
      allows(session({ methods }), method, "/x")
    for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]) {
      assert.isTrue(isFor(undefined, method), method)
      assert.isTrue(isFor([method], method), method)
      assert.isFalse(
        isFor(
          ["GET", "DELETE"].filter((it) => it !== method),
          method
        ),
        method
      )
    }
    for (const method of ["get", "Get", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "", "GET "]) {
      assert.isFalse(isFor(undefined, method), method)
      assert.isFalse(isFor(["GET"], method), method)
    }
  })

  it("its paths and what is below them, by whole segments", () => {
    const paths = ["/bookings", "/event-types/7/private-links"]
    const inside = [
      "/bookings",
      "/bookings/",
      "/bookings?take=10",
      "/bookings/?x=/me",
      "/bookings/abc/cancel",
      "/bookings/%41",
      "/bookings/a;b=c",
      "/event-types/7/private-links",
      "/event-types/7/private-links/x?y"
    ]
    const outside = [
      "/",
      "",
      "/?/bookings",
      "/me",
      "/me?x=/bookings",
      "/bookings-secret",
      "/bookings.json",
      "/bookingsx/",
      "/booking",
      "/Bookings",
      "/BOOKINGS/abc",
      "/b%6fokings",
      "/%62ookings/abc",
      "/bookings%2fabc",
      "/bookings%2F..%2fme",
      "/bookings;x",
      "/bookings;x=1/abc",
      "/;x/bookings",
      "//bookings",
      "/v2/bookings",
      "/v2/v2/bookings",
      "/api/v2/bookings",
      "/x/bookings",
      "bookings",
      "/event-types",
      "/event-types/7",
      "/event-types/77/private-links",
      "/event-types/7/private-link",
      "/event-types/7?/private-links"
    ]
    for (const target of inside) assert.isTrue(allows(session({ paths }), "GET", target), target)
    for (const target of outside) assert.isFalse(allows(session({ paths }), "GET", target), target)
    for (const target of [...inside, ...outside]) assert.isTrue(allows(session({}), "GET", target), target)
    assert.isFalse(allows(session({ paths: [] }), "GET", "/bookings"))
    assert.isFalse(allows(session({ methods: [] }), "GET", "/bookings"))
  })
})

describe("the creation of a session", () => {
  World.scenario(
    "counts as handing out a token, for pages that hold one",
    Effect.gen(function* () {
      const { sessions } = yield* begun()
      const connectedAt = yield* Clock.currentTimeMillis
      assert.strictEqual((yield* World.stored()).handedOutAt, connectedAt)
      yield* TestClock.adjust("3 hours")
      assert.strictEqual((yield* World.stored()).handedOutAt, connectedAt)
      yield* sessions.create(user)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* World.stored()).handedOutAt, connectedAt + 3 * 3_600_000)
    })
  )
})

describe("sessions go on", () => {
  World.scenario(
    "in a process that has not heard yet under which number they were made",
    Effect.gen(function* () {
      const { sessions, tokens } = yield* begun()
      const other = yield* World.anotherNode()
      const elsewhere = yield* Effect.provideService(sessionsOf(), CalTokens, other.tokens)
      const before = yield* other.tokens.sessionsAfter(user)
      yield* tokens.endSessions(user)
      const { session } = yield* sessions.create(user)
      assert.strictEqual(yield* other.tokens.sessionsAfter(user), before)
      assert.isTrue(yield* isTaken(elsewhere, session))
    })
  )

  World.scenario(
    "through refreshes, reissues and a new pair of the same account",
    Effect.gen(function* () {
      const { session, sessions, tokens } = yield* begun({ ttl: 86_400 })
      yield* TestClock.adjust("61 minutes")
      yield* tokens.ensureValid(user)
      yield* tokens.refresh(user, { reissue: true })
      assert.isTrue(yield* isTaken(sessions, session))
      const { pair } = yield* World.stored()
      yield* tokens.update(user, pair)
      yield* TestClock.adjust("6 seconds")
      assert.isTrue(yield* isTaken(sessions, session))
    })
  )
})

describe("sessions are over", () => {
  const taken = "when the account is taken by another user"
  const ends = {
    "when they are ended": ({ sessions }) => sessions.endAll(user),
    "when the user is disconnected": ({ tokens }) => tokens.disconnect(user),
    "when the user is connected anew": () => World.connectManaged(),
    "when the user is connected to another account": () => World.connectManaged(user, "another@example.com"),
    "when the user is disconnected and connected anew": ({ tokens }) =>
      Effect.zipRight(tokens.disconnect(user), World.connectManaged()),
    [taken]: ({ grant, tokens }) =>
      tokens.connect(World.user(2), { _tag: "ManagedUser", calUserId: grant.calUserId }, grant, { replace: true })
  } satisfies Record<string, (world: Effect.Effect.Success<ReturnType<typeof begun>>) => unknown>

  for (const [when, end] of Object.entries(ends)) {
    World.scenario(
      `${when}: at once here, within memoryMaxAge elsewhere`,
      Effect.gen(function* () {
        const world = yield* begun()
        const { session, sessions, tokens } = world
        const { tokens: elsewhere } = yield* World.anotherNode()
        const others = yield* Effect.provideService(sessionsOf(), CalTokens, elsewhere)
        // Both know the user from a moment ago.
        assert.deepStrictEqual([yield* isTaken(sessions, session), yield* isTaken(others, session)], [true, true])
        yield* end(world) as Effect.Effect<unknown, never>
        // What a connection took from another user, its own process hears of as all do.
        if (when !== taken) assert.isFalse(yield* isTaken(sessions, session))
        yield* TestClock.adjust(4_999)
        assert.isTrue(yield* isTaken(others, session))
        yield* TestClock.adjust(1)
        assert.isFalse(yield* isTaken(others, session))
        assert.isFalse(yield* isTaken(sessions, session))
        // And those that begin now are not, wherever they are used.
        if ((yield* Effect.option(tokens.info(user)))._tag === "None") return
        const next = (yield* others.create(user)).session
        assert.deepStrictEqual([yield* isTaken(sessions, next), yield* isTaken(others, next)], [true, true])
      })
    )
  }

  World.scenario(
    "and those that begin after that are not, though their process has heard nothing",
    Effect.gen(function* () {
      const { sessions } = yield* begun()
      const { tokens: elsewhere } = yield* World.anotherNode()
      const others = yield* Effect.provideService(sessionsOf(), CalTokens, elsewhere)
      yield* elsewhere.ensureValid(user)
      yield* sessions.endAll(user)
      const next = (yield* others.create(user)).session
      assert.deepStrictEqual([yield* isTaken(sessions, next), yield* isTaken(others, next)], [true, true])
    })
  )

  World.scenario(
    "of that user only",
    Effect.gen(function* () {
      const { session, sessions } = yield* begun()
      yield* World.connectManaged(World.user(2))
      const theirs = (yield* sessions.create(World.user(2))).session
      yield* sessions.endAll(user)
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual([yield* isTaken(sessions, session), yield* isTaken(sessions, theirs)], [false, true])
      assert.strictEqual((yield* Effect.flip(sessions.endAll(World.user(3))))._tag, "TokensNotFound")
    })
  )

  World.scenario(
    "though a process began to read the user before, and had its answer after it heard",
    Effect.gen(function* () {
      const { session, sessions } = yield* begun()
      const tap = yield* StorageTap
      const memory = Memory.make(TokenConfig.defaults)
      const before = yield* World.stored()
      yield* memory.put(before)
      yield* sessions.endAll(user)
      const after = Option.getOrThrow(yield* tap.raw.find(user))
      memory.outdate(Notice.Written({ userUlid: user, version: after.sessionsAfter }))
      yield* memory.put(before, yield* Clock.currentTimeMillis)
      assert.isTrue(Option.isNone(yield* memory.confirmed(user)))
      yield* memory.put(after, yield* Clock.currentTimeMillis)
      assert.strictEqual(Option.getOrThrow(yield* memory.confirmed(user)).sessionsAfter, after.sessionsAfter)
      // An old one, that comes even later, does not bring the session back.
      yield* memory.put(before)
      assert.strictEqual(Option.getOrThrow(yield* memory.confirmed(user)).sessionsAfter, after.sessionsAfter)
      assert.isFalse(yield* isTaken(sessions, session))
    })
  )
})

describe("with the storage out of reach", () => {
  World.scenario(
    "sessions are refused, though tokens are served, and taken when it is back",
    Effect.gen(function* () {
      const { read, session, sessions, tokens } = yield* begun()
      const tap = yield* StorageTap
      assert.isTrue(yield* isTaken(sessions, session))
      yield* tap.down
      yield* TestClock.adjust("5 seconds")
      for (const wait of [1, 500, 4_999]) {
        // The token's entry counts as recent after each of these.
        yield* tokens.ensureValid(user)
        assert.strictEqual((yield* Effect.flip(sessions.isCurrent(read)))._tag, "StorageUnavailable")
        yield* TestClock.adjust(wait)
      }
      assert.strictEqual((yield* Effect.flip(sessions.create(user)))._tag, "StorageUnavailable")
      assert.strictEqual((yield* Effect.flip(sessions.endAll(user)))._tag, "StorageUnavailable")
      yield* tap.up
      assert.isTrue(yield* isTaken(sessions, session))
      yield* sessions.endAll(user)
      assert.isFalse(yield* isTaken(sessions, session))
    })
  )

  World.scenario(
    "a pair that is held in memory proves no session",
    Effect.gen(function* () {
      const { read, session, sessions, tokens } = yield* begun({ ttl: 86_400 })
      const tap = yield* StorageTap
      yield* TestClock.adjust("61 minutes")
      yield* tap.refuse("commit", 1000)
      yield* tokens.ensureValid(user)
      // Held: served without asking; the row behind it is asked all the same.
      assert.isTrue(yield* isTaken(sessions, session))
      yield* sessions.endAll(user)
      assert.isFalse(yield* isTaken(sessions, session))
      yield* tap.down
      yield* TestClock.adjust("5 seconds")
      yield* tokens.ensureValid(user)
      assert.strictEqual((yield* Effect.flip(sessions.isCurrent(read)))._tag, "StorageUnavailable")
      yield* tap.relent
      yield* tap.up
    })
  )
})

describe("the layer", () => {
  World.scenario(
    "takes keys and tokens",
    Effect.gen(function* () {
      yield* World.connectManaged()
      const context = yield* Layer.build(Layer.provide(SessionsModule.layer, Keys.layerKeys()))
      const sessions = Context.get(context, Sessions)
      assert.isTrue(yield* isTaken(sessions, (yield* sessions.create(user)).session))
    })
  )
})

it("what is written of sessions is what they may be", () => {
  // The API value is for browsers, too, and has none of what makes sessions.
  const { properties } = JSONSchema.make(CreateSession) as unknown as {
    readonly properties: Readonly<Record<"ttl" | "methods" | "paths", Readonly<Record<string, unknown>>>>
  }
  const { limits, methods, ttl } = SessionsModule
  assert.include(properties.ttl, { maximum: ttl.longest, default: ttl.default })
  assert.deepNestedInclude(properties.methods, { "items.enum": [...methods] })
  assert.include(String(properties.paths["description"]), `At most ${limits.paths}.`)
})
