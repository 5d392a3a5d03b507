import { createDecipheriv, createHmac, hkdfSync } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Config,
  ConfigProvider,
  Context,
  Effect,
  Either,
  Exit,
  FastCheck,
  Layer,
  Logger,
  Option,
  Queue,
  Redacted,
  Schema,
  Stream,
  TestClock
} from "effect"
import { UserUlid } from "../src/Token.js"
import * as KeyRing from "../src/KeyRing.js"
import { keyOf } from "./support/Keys.js"

const decode = Schema.decodeSync(UserUlid)
const alice: KeyRing.Binding = { userUlid: decode("01ARZ3NDEKTSV4RRFFQ69G5FAV"), purpose: "token-pair" }
const bob: KeyRing.Binding = { ...alice, userUlid: decode("01BX5ZZKBKACTAV9WEVGEMMVRZ") }

const ringOf = (keys: string) => KeyRing.make(Either.getOrThrow(KeyRing.parseKeys(Redacted.make(keys))))
const keys = ringOf(keyOf("k1", 1))
const encrypt = (text: string, by = keys, binding = alice) => Effect.runSync(by.seal(binding, Redacted.make(text)))
/** The text, or the tag of the failure; a defect throws. */
const decrypt = (envelope: string, by = keys, binding = alice) =>
  Effect.runSync(
    Effect.match(by.open(binding, envelope), {
      onSuccess: Redacted.value,
      onFailure: (error) => {
        assert.strictEqual(error.userUlid, binding.userUlid)
        const body = envelope.split(".")[2] ?? ""
        if (body.length > 20) assert.notInclude(error.message, body)
        return error._tag
      }
    })
  )

const Text = FastCheck.string({ unit: "grapheme" })

describe("sealing", () => {
  it("gives back what was sealed, and never the same envelope twice", () =>
    FastCheck.assert(
      FastCheck.property(Text, (text) => {
        assert.strictEqual(decrypt(encrypt(text)), text)
        assert.notStrictEqual(encrypt(text), encrypt(text))
      })
    ))

  it("does not open for another user or purpose", () =>
    FastCheck.assert(
      FastCheck.property(Text, (text) => {
        assert.strictEqual(decrypt(encrypt(text), keys, bob), "TokenUnreadable")
        assert.strictEqual(decrypt(encrypt(text), keys, { ...alice, purpose: "sealed-answer" }), "TokenUnreadable")
      })
    ))

  it("does not open for another subject, and not where one subject is cut in two", () => {
    const of = (...subject: ReadonlyArray<string>) => ({ ...alice, subject })
    const envelope = encrypt("text", keys, of("ManagedUser", "platform", "1"))
    assert.strictEqual(decrypt(envelope, keys, of("ManagedUser", "platform", "1")), "text")
    for (const other of [
      alice,
      of(),
      of("ManagedUser", "platform", "2"),
      of("OAuth2", "platform", "1"),
      of("ManagedUser", "platform"),
      of("ManagedUser", "platform1"),
      of("ManagedUser", "plat", "form", "1")
    ]) {
      assert.strictEqual(decrypt(envelope, keys, other), "TokenUnreadable")
    }
  })

  it("does not open after a change of any character", () =>
    FastCheck.assert(
      FastCheck.property(
        Text,
        FastCheck.nat(),
        FastCheck.constantFrom(..."AZaz09-_.+/= ké"),
        (text, position, replacement) => {
          const envelope = encrypt(text)
          const at = position % envelope.length
          const altered = envelope.slice(0, at) + replacement + envelope.slice(at + 1)
          FastCheck.pre(altered !== envelope)
          assert.strictEqual(decrypt(altered), "TokenUnreadable")
        }
      ),
      { numRuns: 1000 }
    ))

  it("does not open after a change of any bit", () => {
    const envelope = encrypt("a refresh token")
    const [version, id, body = ""] = envelope.split(".")
    const bytes = Buffer.from(body, "base64url")
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const altered = Buffer.from(bytes)
      altered.writeUInt8(altered.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      assert.strictEqual(decrypt(`${version}.${id}.${altered.toString("base64url")}`), "TokenUnreadable")
    }
  })

  it("does not open when it is cut, padded or something else", () =>
    FastCheck.assert(
      FastCheck.property(Text, FastCheck.nat(), Text, (text, position, other) => {
        const envelope = encrypt(text)
        assert.strictEqual(decrypt(envelope.slice(0, position % envelope.length)), "TokenUnreadable")
        assert.strictEqual(decrypt(`${envelope}=`), "TokenUnreadable")
        assert.strictEqual(decrypt(`${envelope}.x`), "TokenUnreadable")
        assert.strictEqual(decrypt(other), "TokenUnreadable")
      })
    ))
})

describe("a flow's envelope", () => {
  const sealed = Effect.runSync(keys.sealFlow("hash of a state", Redacted.make("text")))
  const opened = (stateHash: string, envelope = sealed, by = keys) =>
    Option.getOrUndefined(Option.map(Effect.runSync(by.openFlow(stateHash, envelope)), Redacted.value))

  it("opens beside its own state only, under any of the keys", () => {
    assert.strictEqual(opened("hash of a state"), "text")
    assert.strictEqual(opened("hash of a state", sealed, ringOf(`${keyOf("k2", 2)},${keyOf("k1", 1)}`)), "text")
    assert.isUndefined(opened("hash of another state"))
    assert.isUndefined(opened("hash of a state", sealed, ringOf(keyOf("k1", 9))))
    assert.isUndefined(opened("hash of a state", `${sealed.slice(0, -1)}!`))
  })

  it("is none of a user's, and none of a user's is a flow's, whatever the names", () => {
    const ofAlice = Effect.runSync(keys.sealFlow(alice.userUlid, Redacted.make("text")))
    for (const purpose of ["token-pair", "sealed-answer"] as const) {
      assert.strictEqual(decrypt(ofAlice, keys, { ...alice, purpose }), "TokenUnreadable")
      assert.isUndefined(opened(alice.userUlid, encrypt("text", keys, { ...alice, purpose })))
    }
  })
})

describe("codes", () => {
  const two = ringOf(`${keyOf("k2", 2)},${keyOf("k1", 1)}`)

  it("are known to all who have the key, whatever its place in the ring", () => {
    const code = keys.mac("flow", "text")
    assert.isTrue(keys.verify("flow", "text", code))
    assert.isTrue(two.verify("flow", "text", code))
    // The first key writes.
    assert.notStrictEqual(two.mac("flow", "text"), code)
    assert.isFalse(keys.verify("flow", "text", two.mac("flow", "text")))
    assert.deepStrictEqual([keys.ids, two.ids], [["k1"], ["k2", "k1"]])
  })

  it("are of one purpose, one text and one way of writing", () => {
    const code = keys.mac("flow", "text")
    assert.isTrue(keys.verify("flow", "text", code))
    assert.isFalse(keys.verify("look-up", "text", code))
    assert.isFalse(keys.verify("flow", "text2", code))
    for (const other of ["", code.slice(0, -1), `${code}=`, `${code}A`, ` ${code}`, code.replace(/.$/, "!")]) {
      assert.isFalse(keys.verify("flow", "text", other), other)
    }
    // The last letter has bits to spare: another one for the same bytes is not accepted.
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    const same = [...letters].map((letter) => code.slice(0, -1) + letter)
    assert.deepStrictEqual(
      same.filter((other) => keys.verify("flow", "text", other)),
      [code]
    )
  })

  it("look a token up under every key, that of the first one first", () => {
    const [first, ...none] = keys.lookups("hash")
    const [second, old, ...more] = two.lookups("hash")
    assert.deepStrictEqual([none, more, old], [[], [], first])
    assert.notStrictEqual(second, first)
    assert.notDeepEqual(keys.lookups("hash2"), [first])
    assert.isFalse(keys.verify("look-up", "hash", first))
    assert.match(first, /^[A-Za-z0-9_-]{43}$/)
  })

  it("no configured key is used as it is: each purpose has one that is derived from it", () => {
    const [, text = ""] = keyOf("k1", 1).split(":")
    const key = Buffer.from(text, "base64")
    const derived = (purpose: string) => Buffer.from(hkdfSync("sha256", key, "", `cal-tokens ${purpose}`, 32))
    const hmac = (by: Buffer) => createHmac("sha256", by).update("text").digest("base64url")
    for (const purpose of ["look-up", "flow", "page"] as const) {
      assert.strictEqual(keys.mac(purpose, "text"), hmac(derived(purpose)))
      assert.notStrictEqual(keys.mac(purpose, "text"), hmac(key))
    }
    const sessionKeys = (ring: KeyRing.KeyRing["Type"]) =>
      ring.sessionKeys.map(({ id, secret }) => [id, Buffer.from(Redacted.value(secret)).toString("hex")])
    assert.deepStrictEqual(sessionKeys(keys), [["k1", derived("session").toString("hex")]])
    assert.deepStrictEqual(
      sessionKeys(two).map(([id]) => id),
      ["k2", "k1"]
    )
    assert.deepStrictEqual(sessionKeys(two)[1], sessionKeys(keys)[0])
    const sealed = Buffer.from(encrypt("text").split(".")[2] ?? "", "base64url")
    const opens = (by: Buffer) => {
      const decipher = createDecipheriv("aes-256-gcm", by, sealed.subarray(0, 12), { authTagLength: 16 })
      return decipher.update(sealed.subarray(12, -16)).toString()
    }
    assert.strictEqual(opens(derived("seal")), "text")
    assert.notStrictEqual(opens(key), "text")
  })
})

describe("a ring that is replaced", () => {
  const parse = (...keys: ReadonlyArray<string>) => Either.getOrThrow(KeyRing.parseKeys(Redacted.make(keys.join())))
  const [k1, k2] = [keyOf("k1", 1), keyOf("k2", 2)]

  it("writes with the new first key and opens whatever it opened before", () => {
    const { replace, ring } = KeyRing.makeReplaceable(parse(k1))
    const old = encrypt("old", ring)
    const code = ring.mac("flow", "text")
    assert.deepStrictEqual(replace(parse(k2, k1)), Either.right([]))
    assert.deepStrictEqual(
      [ring.ids, ring.retired, ring.sessionKeys.map(({ id }) => id)],
      [["k2", "k1"], [], ["k2", "k1"]]
    )
    assert.isTrue(encrypt("new", ring).startsWith("v1.k2."))
    assert.deepStrictEqual(replace(parse(k2)), Either.right(["k1"]))
    assert.deepStrictEqual([ring.ids, ring.retired], [["k2", "k1"], ["k1"]])
    assert.deepStrictEqual([decrypt(old, ring), ring.verify("flow", "text", code)], ["old", true])
    assert.lengthOf(ring.lookups("hash"), 2)
    // And is given back.
    assert.deepStrictEqual(replace(parse(k1, k2)), Either.right([]))
    assert.isTrue(encrypt("new", ring).startsWith("v1.k1."))
  })

  it("takes no other key under an id that it knows, also of one that is retired, and changes nothing", () => {
    const { replace, ring } = KeyRing.makeReplaceable(parse(k1))
    replace(parse(k2))
    const before = encrypt("text", ring)
    for (const keys of [parse(keyOf("k2", 3)), parse(k2, keyOf("k1", 3)), parse(keyOf("k3", 3), keyOf("k1", 4))]) {
      assert.match(
        Either.getOrThrow(Either.flip(replace(keys))),
        /^the key k[12] is another one than before under its id$/
      )
    }
    assert.deepStrictEqual([ring.ids, ring.retired], [["k2", "k1"], ["k1"]])
    assert.strictEqual(decrypt(before, ring), "text")
  })
})

describe("a ring that is loaded again", () => {
  const parse = (...keys: ReadonlyArray<string>) => Either.getOrThrow(KeyRing.parseKeys(Redacted.make(keys.join())))
  const [k1, k2] = [keyOf("k1", 1), keyOf("k2", 2)]

  /** A ring whose keys come from `source`, and what it logs. */
  const world = (
    keys: KeyRing.Keys,
    options: Omit<KeyRing.ReloadingOptions<never, never>, "load"> = { refreshEvery: "1 hour" }
  ) =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      let loads = 0
      let load: Effect.Effect<KeyRing.Keys, unknown> = Effect.succeed(keys)
      const layer = KeyRing.layerReloading({
        ...options,
        load: Effect.suspend(() => {
          loads++
          return load
        })
      })
      const logger = Logger.map(Logger.logfmtLogger, (line) => void lines.push(line))
      const context = yield* Layer.build(Layer.provide(layer, Logger.replace(Logger.defaultLogger, logger)))
      return {
        ring: Context.get(context, KeyRing.KeyRing),
        lines,
        loads: () => loads,
        is: (next: Effect.Effect<KeyRing.Keys, unknown>) => {
          load = next
        }
      }
    })

  it.scoped("has the new keys for everybody who uses it, and keeps the old ones", () =>
    Effect.gen(function* () {
      const { is, lines, loads, ring } = yield* world(parse(k1))
      const old = encrypt("old", ring)
      yield* TestClock.adjust("59 minutes")
      assert.strictEqual(loads(), 1)
      is(Effect.succeed(parse(k2, k1)))
      yield* TestClock.adjust("1 minute")
      assert.isTrue(encrypt("new", ring).startsWith("v1.k2."))
      assert.strictEqual(decrypt(old, ring), "old")
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], "k2 writes, k2, k1 read")
      yield* TestClock.adjust("3 hours")
      assert.deepStrictEqual([loads(), lines.length], [5, 1])
      is(Effect.succeed(parse(k2)))
      yield* TestClock.adjust("3 hours")
      assert.strictEqual(decrypt(old, ring), "old")
      assert.strictEqual(lines.length, 3)
      assert.match(lines[2] ?? "", /level=ERROR .*The encryption keys lack k1: /)
    })
  )

  it.scoped("stays as it is while keys cannot be had, says so once and not why in words, and tries again", () =>
    Effect.gen(function* () {
      const { is, lines, loads, ring } = yield* world(parse(k1))
      const failures: ReadonlyArray<readonly [Effect.Effect<KeyRing.Keys, unknown>, RegExp]> = [
        [Effect.fail({ _tag: "KmsDenied", message: "SECRET" }), /reason=KmsDenied$/],
        [Effect.die(new TypeError("SECRET")), /reason=TypeError$/],
        [Effect.never, /reason="they did not come in time"$/],
        [Effect.succeed(parse(keyOf("k1", 3))), /reason="the key k1 is another one than before under its id"$/],
        [
          Effect.succeed([{ id: "k3", secret: Redacted.make(new Uint8Array(31)) }] as const),
          /reason="entry 1 has a key of 31 bytes;/
        ]
      ]
      for (const [failure, told] of failures) {
        lines.length = 0
        is(failure)
        yield* TestClock.adjust("1 hour")
        yield* TestClock.adjust("5 minutes")
        assert.strictEqual(lines.length, 1, lines.join("\n"))
        assert.match(lines[0] ?? "", told)
        assert.notInclude(lines[0], "SECRET")
        assert.deepStrictEqual(ring.ids, ["k1"])
        const before = loads()
        is(Effect.succeed(parse(k1)))
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual(loads(), before + 1)
        assert.include(lines[1], "The encryption keys are loaded again")
      }
    })
  )

  it.scoped("is loaded when it is told to", () =>
    Effect.gen(function* () {
      const signals = yield* Queue.unbounded<void>()
      const { is, loads, ring } = yield* world(parse(k1), { reload: Stream.fromQueue(signals) })
      yield* TestClock.adjust("1 day")
      assert.strictEqual(loads(), 1)
      is(Effect.succeed(parse(k2, k1)))
      yield* Queue.offer(signals, undefined)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(ring.ids, ["k2", "k1"])
    })
  )

  it.effect("does not begin without keys, or with keys that nobody should use", () =>
    Effect.gen(function* () {
      const build = <E>(load: Effect.Effect<KeyRing.Keys, E>) =>
        Effect.flip(Effect.scoped(Layer.build(KeyRing.layerReloading({ load }))))
      assert.strictEqual(yield* build(Effect.fail("denied" as const)), "denied")
      const secret = Redacted.make(new Uint8Array(32))
      assert.include(JSON.stringify(yield* build(Effect.succeed([{ id: "k1", secret }] as const))), "one repeated byte")
    })
  )
})

describe("key rings", () => {
  it("write with the first key and read with all", () => {
    const old = encrypt("old")
    const rotated = ringOf(`${keyOf("k2", 2)},${keyOf("k1", 1)}`)
    assert.strictEqual(decrypt(old, rotated), "old")
    const fresh = encrypt("new", rotated)
    assert.isTrue(fresh.startsWith("v1.k2."))
    assert.strictEqual(decrypt(fresh, rotated), "new")
    assert.strictEqual(decrypt(fresh), "TokenUnreadable")
    assert.strictEqual(decrypt(old, ringOf(keyOf("k1", 9))), "TokenUnreadable")
    // The id is authenticated: the same key under another name is another key.
    assert.strictEqual(decrypt(old.replace("k1", "k9"), ringOf(keyOf("k9", 1))), "TokenUnreadable")
  })

  it("generated ones are well-formed and differ", () => {
    const [a, b] = [Effect.runSync(KeyRing.generateKeys), Effect.runSync(KeyRing.generateKeys)]
    assert.isTrue(Either.isRight(KeyRing.parseKeys(a)))
    assert.notStrictEqual(Redacted.value(a), Redacted.value(b))
  })

  it.scoped("an ephemeral one opens what it sealed, and nothing of another layer", () =>
    Effect.gen(function* () {
      const build = Effect.map(Layer.build(Layer.fresh(KeyRing.layerEphemeral)), Context.get(KeyRing.KeyRing))
      const [ring, later] = [yield* build, yield* build]
      const envelope = encrypt("text", ring)
      assert.strictEqual(decrypt(envelope, ring), "text")
      assert.strictEqual(decrypt(envelope, later), "TokenUnreadable")
    })
  )

  const bytes = (n: number) => Buffer.from(Array.from({ length: n }, (_, i) => 200 - i))
  const secret = bytes(32).toString("base64")
  const refused: Record<string, readonly [keys: string, says: string]> = {
    "nothing at all": ["", "entry 1 is empty"],
    "a trailing comma": [`k1:${secret},`, "entry 2 is empty"],
    "no id": [secret, "entry 1 has no key id"],
    "an empty id": [`:${secret}`, "not 1 to 64 letters"],
    "an id with a dot": [`k.1:${secret}`, "not 1 to 64 letters"],
    "a repeated id": [`k1:${secret},${keyOf("k1", 2)}`, "entry 2 repeats a key id"],
    "a repeated key": [`k1:${secret},k2:${secret}`, "entry 2 repeats a key"],
    "31 bytes": [`k1:${bytes(31).toString("base64")}`, "a key of 31 bytes"],
    "33 bytes": [`k1:${bytes(33).toString("base64")}`, "a key of 33 bytes"],
    "hexadecimal digits": [`k1:${bytes(32).toString("hex")}`, "a key of 48 bytes"],
    "nothing but zeros": [`k1:${Buffer.alloc(32).toString("base64")}`, "a key of one repeated byte"],
    "one repeated byte": [`k1:${secret},k2:${Buffer.alloc(32, 65).toString("base64")}`, "entry 2 has a key of one"],
    "other characters": [`k1:${secret.slice(0, -3)}!!=`, "is not base64"],
    "no padding": [`k1:${secret.slice(0, -1)}`, "is not base64"]
  }
  for (const [what, [keys, says]] of Object.entries(refused)) {
    it.effect(`refuse ${what} in one line that shows no key`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(KeyRing.layer(Redacted.make(keys)))))
        assert(Exit.isFailure(exit))
        const text = Cause.pretty(exit.cause)
        assert.include(text, "encryptionKeys")
        assert.include(text, says)
        assert.notInclude(text, secret.slice(0, 12))
        assert.notInclude(String(Cause.squash(exit.cause)), "\n")
      })
    )
  }

  it.effect("come from whatever configuration is named", () =>
    Effect.gen(function* () {
      const build = Effect.scoped(Layer.build(KeyRing.layerConfig(Config.redacted("MY_KEYS"))))
      assert.include(JSON.stringify(yield* Effect.flip(build)), "MY_KEYS")
      const given = ConfigProvider.fromMap(new Map([["MY_KEYS", keyOf("mine", 1)]]))
      const { ids } = Context.get(yield* Effect.withConfigProvider(build, given), KeyRing.KeyRing)
      assert.deepStrictEqual(ids, ["mine"])
    }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map())))
  )
})
