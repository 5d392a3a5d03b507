import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Context, Effect, Either, Exit, FastCheck, Layer, Redacted, Schema } from "effect"
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
        assert.strictEqual(decrypt(encrypt(text), keys, { ...alice, purpose: "oauth-code" }), "TokenUnreadable")
      })
    ))

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

  const [, secret = ""] = keyOf("k1", 200).split(":")
  const refused: Record<string, readonly [keys: string, says: string]> = {
    "nothing at all": ["", "entry 1 is empty"],
    "a trailing comma": [`k1:${secret},`, "entry 2 is empty"],
    "no id": [secret, "entry 1 has no key id"],
    "an empty id": [`:${secret}`, "not 1 to 64 letters"],
    "an id with a dot": [`k.1:${secret}`, "not 1 to 64 letters"],
    "a repeated id": [`k1:${secret},${keyOf("k1", 2)}`, "entry 2 repeats a key id"],
    "a repeated key": [`k1:${secret},k2:${secret}`, "entry 2 repeats a key"],
    "31 bytes": [`k1:${Buffer.alloc(31, 200).toString("base64")}`, "a key of 31 bytes"],
    "33 bytes": [`k1:${Buffer.alloc(33, 200).toString("base64")}`, "a key of 33 bytes"],
    "hexadecimal digits": [`k1:${Buffer.alloc(32, 200).toString("hex")}`, "a key of 48 bytes"],
    "other characters": [`k1:${secret.slice(0, -3)}!!=`, "is not base64"],
    "no padding": [`k1:${secret.slice(0, -1)}`, "is not base64"]
  }
  for (const [what, [keys, says]] of Object.entries(refused)) {
    it.effect(`refuse ${what} in one line that shows no key`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(
          Effect.scoped(Layer.build(KeyRing.layerConfig())).pipe(
            Effect.withConfigProvider(ConfigProvider.fromMap(new Map([[KeyRing.variable, keys]])))
          )
        )
        assert(Exit.isFailure(exit))
        const text = Cause.pretty(exit.cause)
        assert.include(text, "CAL_TOKENS_ENCRYPTION_KEYS")
        assert.include(text, says)
        assert.notInclude(text, secret.slice(0, 12))
        assert.notInclude(String(Cause.squash(exit.cause)), "\n")
      })
    )
  }

  it.effect("name the variable when it is missing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(Layer.build(KeyRing.layerConfig())))
      assert.include(JSON.stringify(error), "CAL_TOKENS_ENCRYPTION_KEYS")
    }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map())))
  )
})
