/**
 * The keys of a fleet, and what is done with them. No configured key is used as it is: one is derived from it for each
 * purpose (HKDF with SHA-256, RFC 5869), so that nothing made for one purpose is of use for another.
 *
 * Encryption at rest: AES-256-GCM. What is encrypted is bound to its user, its purpose and its subject, so that a
 * ciphertext moved to another user's row, or used for something else, does not decrypt. It is not bound to a column: a
 * pair may move between a user's own columns as it is. A flow through Cal.com's consent is bound to its state's hash
 * instead, and says itself whose it is.
 *
 * An envelope is text, `v1.<key id>.<base64url of nonce, ciphertext, tag>`, and its version and key id are authenticated.
 * Nonces are random (96 bits): one key may write 2^32 envelopes before it has to be replaced (NIST SP 800-38D, 8.3).
 *
 * Codes (HMAC-SHA-256, base64url) prove that a text was written by somebody with a key: the first key writes, all are
 * tried. While keys rotate, processes of the old and of the new order understand each other.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto"
import {
  Cause,
  Config,
  ConfigError,
  Context,
  Data,
  Duration,
  Effect,
  Either,
  Layer,
  type Option,
  Predicate,
  Queue,
  Redacted,
  Schedule,
  Stream
} from "effect"
import type { UserUlid } from "./Token.js"
import { TokenUnreadable } from "./TokenError.js"

/**
 * What a ciphertext belongs to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Binding {
  readonly userUlid: UserUlid
  readonly purpose: "token-pair" | "sealed-answer"
  /** What else has to be the same when it is opened, such as the account. Default: nothing. */
  readonly subject?: ReadonlyArray<string> | undefined
}

/**
 * What a code is for: access tokens that name their user, flows through Cal.com's consent, sessions of the operator's page.
 *
 * @since 0.1.0
 * @category models
 */
export type CodePurpose = "look-up" | "flow" | "page"

/**
 * Seals what is written about a user and opens it again; makes and checks codes.
 *
 * @since 0.1.0
 * @category tags
 */
export class KeyRing extends Context.Tag("cal-tokens/KeyRing")<
  KeyRing,
  {
    /** Seals a text with the first key. */
    readonly seal: (binding: Binding, text: Redacted.Redacted) => Effect.Effect<string>
    /** Opens an envelope that any of the keys sealed for the same binding. */
    readonly open: (binding: Binding, envelope: string) => Effect.Effect<Redacted.Redacted, TokenUnreadable>
    /** Seals a flow with the first key. */
    readonly sealFlow: (stateHash: string, text: Redacted.Redacted) => Effect.Effect<string>
    /** Opens an envelope that any of the keys sealed for the same flow; `None` for any other text. */
    readonly openFlow: (stateHash: string, envelope: string) => Effect.Effect<Option.Option<Redacted.Redacted>>
    /** Under which names a token (by its hash) is looked up: one for each key, that of the first key first. */
    readonly lookups: (hash: string) => readonly [string, ...ReadonlyArray<string>]
    /** The code of a text under the first key. Texts of one purpose have to differ by more than where they are cut. */
    readonly mac: (purpose: CodePurpose, text: string) => string
    /** Whether a code is that of a text under any of the keys; in constant time, whichever it is. */
    readonly verify: (purpose: CodePurpose, text: string, code: string) => boolean
    /** The keys for user sessions, which are signed by the first and verified with the one that they name. */
    readonly sessionKeys: Keys
    /** The ids of the keys, the first one first. */
    readonly ids: readonly [string, ...ReadonlyArray<string>]
    /** Those of them that a newer ring lacks: they open what they sealed until the program ends. */
    readonly retired: ReadonlyArray<string>
  }
>() {}

/**
 * AES-256 keys by id; the first one writes, all of them read.
 *
 * @since 0.1.0
 * @category models
 */
export type Keys = readonly [Key, ...ReadonlyArray<Key>]

/**
 * A key of 32 bytes and the id that rows name it by.
 *
 * @since 0.1.0
 * @category models
 */
export interface Key {
  readonly id: string
  readonly secret: Redacted.Redacted<Uint8Array>
}

/**
 * The form of a list of keys, for people.
 *
 * @since 0.1.0
 * @category constants
 */
export const expected = "id:base64(32 bytes)[,id:…]"

/**
 * Reads `id:base64(32 bytes)[,id:…]`. A failure says in one line what is wrong and never shows a key.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parseKeys = (text: Redacted.Redacted): Either.Either<Keys, string> => {
  const keys: Array<Key> = []
  const entries = Redacted.value(text)
    .split(",")
    .map((entry) => entry.trim())
  for (const [index, entry] of entries.entries()) {
    const fault = (what: string) => Either.left(`entry ${index + 1} ${what}; expected ${form}`)
    const colon = entry.indexOf(":")
    if (entry === "") return fault("is empty")
    if (colon < 0) return fault("has no key id")
    const id = entry.slice(0, colon)
    const secret = Buffer.from(entry.slice(colon + 1), "base64")
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) return fault("has a key id that is not 1 to 64 letters, digits, _ or -")
    if (keys.some((key) => key.id === id)) return fault("repeats a key id")
    if (secret.toString("base64") !== entry.slice(colon + 1)) return fault("is not base64")
    if (secret.length !== 32) return fault(`has a key of ${secret.length} bytes`)
    if (secret.every((byte) => byte === secret[0])) return fault("has a key of one repeated byte, which is no secret")
    if (keys.some((key) => isSame(secret, Redacted.value(key.secret)))) return fault("repeats a key")
    keys.push({ id, secret: Redacted.make(secret) })
  }
  const [first, ...rest] = keys
  return first === undefined ? Either.left(`is empty; expected ${form}`) : Either.right([first, ...rest])
}

/**
 * A new ring of one key, in the same form.
 *
 * @since 0.1.0
 * @category constructors
 */
export const generateKeys: Effect.Effect<Redacted.Redacted> = Effect.sync(() => {
  const secret = randomBytes(32)
  return Redacted.make(`k${randomBytes(4).toString("hex")}:${secret.toString("base64")}`)
})

/**
 * With keys that were read already.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (keys: Keys): KeyRing["Type"] => {
  const [writer, ...others] = keys
  const byId = new Map(keys.map((key) => [key.id, derive(key, "seal")]))
  const sealing = derive(writer, "seal")
  const codes = {
    "look-up": derivedOf(keys, "look-up"),
    flow: derivedOf(keys, "flow"),
    page: derivedOf(keys, "page")
  }

  const seal = (owner: Owner, text: Redacted.Redacted): string => {
    const nonce = randomBytes(nonceBytes)
    const cipher = createCipheriv(algorithm, sealing, nonce, { authTagLength: tagBytes })
    cipher.setAAD(associatedData(owner, writer.id))
    const sealed = Buffer.concat([nonce, cipher.update(Redacted.value(text), "utf8"), cipher.final()])
    return `${version}.${writer.id}.${Buffer.concat([sealed, cipher.getAuthTag()]).toString("base64url")}`
  }

  /** The text of an envelope, or why there is none. */
  const open = (owner: Owner, envelope: string): Either.Either<Redacted.Redacted, string> => {
    const [name, keyId, body, ...rest] = envelope.split(".")
    if (name !== version || keyId === undefined || body === undefined || rest.length > 0) {
      return Either.left("not an envelope of this version")
    }
    const secret = byId.get(keyId)
    if (secret === undefined) return Either.left("its key is not among the configured ones")
    const bytes = Buffer.from(body, "base64url")
    if (bytes.length < nonceBytes + tagBytes || bytes.toString("base64url") !== body) {
      return Either.left("truncated or altered")
    }
    return Either.try({
      try: () => {
        const options = { authTagLength: tagBytes }
        const decipher = createDecipheriv(algorithm, secret, bytes.subarray(0, nonceBytes), options)
        decipher.setAAD(associatedData(owner, keyId))
        decipher.setAuthTag(bytes.subarray(-tagBytes))
        const opened = Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()])
        return Redacted.make(opened.toString("utf8"))
      },
      catch: () => "altered, sealed for another user, or under another key of the same id"
    })
  }

  return {
    sessionKeys: [sessionKey(writer), ...others.map(sessionKey)],
    ids: [writer.id, ...others.map(({ id }) => id)],
    retired: [],
    lookups: (hash) => {
      const [first, ...rest] = codes["look-up"]
      const text = JSON.stringify(["token", hash])
      return [codeOf(first, text).toString("base64url"), ...rest.map((key) => codeOf(key, text).toString("base64url"))]
    },
    mac: (purpose, text) => codeOf(codes[purpose][0], text).toString("base64url"),
    verify: (purpose, text, code) => {
      const given = Buffer.from(code, "base64url")
      // Every key is tried, and one way of writing a code is right.
      const found = codes[purpose].filter((key) => isSame(codeOf(key, text), given))
      return found.length > 0 && given.toString("base64url") === code
    },
    seal: (binding, text) => Effect.sync(() => seal(ownerOf(binding), text)),
    open: (binding, envelope) =>
      Effect.mapError(
        open(ownerOf(binding), envelope),
        (reason) => new TokenUnreadable({ userUlid: binding.userUlid, reason })
      ),
    sealFlow: (stateHash, text) => Effect.sync(() => seal(["flow", stateHash], text)),
    openFlow: (stateHash, envelope) => Effect.option(open(["flow", stateHash], envelope))
  }
}

/**
 * A ring whose keys may be replaced while it is in use.
 *
 * @since 0.1.0
 * @category models
 */
export interface Replaceable {
  readonly ring: KeyRing["Type"]
  /**
   * From now on the first of these writes. A key that these lack is not let go of, for rows may be sealed with it: it opens
   * what it sealed until the program ends, and is among the `retired` ones that are answered. Another key under an id that is
   * in use is refused with a line that says so, and nothing changes.
   */
  readonly replace: (keys: Keys) => Either.Either<ReadonlyArray<string>, string>
}

/**
 * With keys to begin with.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeReplaceable = (keys: Keys): Replaceable => {
  let current = make(keys)
  let known = keys
  let retired: ReadonlyArray<string> = []
  return {
    ring: {
      seal: (binding, text) => Effect.suspend(() => current.seal(binding, text)),
      open: (binding, envelope) => Effect.suspend(() => current.open(binding, envelope)),
      sealFlow: (stateHash, text) => Effect.suspend(() => current.sealFlow(stateHash, text)),
      openFlow: (stateHash, envelope) => Effect.suspend(() => current.openFlow(stateHash, envelope)),
      lookups: (hash) => current.lookups(hash),
      mac: (purpose, text) => current.mac(purpose, text),
      verify: (purpose, text, code) => current.verify(purpose, text, code),
      get sessionKeys() {
        return current.sessionKeys
      },
      get ids() {
        return current.ids
      },
      get retired() {
        return retired
      }
    },
    replace: (keys) => {
      const [first, ...rest] = keys
      const isOther = (key: Key) =>
        known.some(({ id, secret }) => id === key.id && !isSame(Redacted.value(secret), Redacted.value(key.secret)))
      const other = keys.find(isOther)
      if (other !== undefined) return Either.left(`the key ${other.id} is another one than before under its id`)
      const old = known.filter((key) => !keys.some(({ id }) => id === key.id))
      known = [first, ...rest, ...old]
      retired = old.map(({ id }) => id)
      current = make(known)
      return Either.right(retired)
    }
  }
}

/**
 * Where the keys of a ring come from while a program runs.
 *
 * @since 0.1.0
 * @category models
 */
export interface ReloadingOptions<E, R> {
  /** All keys, the first one first: asked for at the start, and again later. */
  readonly load: Effect.Effect<Keys, E, R>
  /** How often they are asked for again. Default: only when `reload` says so. */
  readonly refreshEvery?: Duration.DurationInput | undefined
  /** They are asked for again at each element. */
  readonly reload?: Stream.Stream<unknown, never, R> | undefined
}

/** How long keys may take to come, after the start. */
const loadTimeout = Duration.seconds(30)

/** Pauses between attempts to load keys again: so long, doubling, up to the second. */
const pauses = [Duration.seconds(1), Duration.minutes(1)] as const

/**
 * The ring of a program that has its keys from elsewhere, such as a key management service, and asks for them again while it
 * runs: whoever uses the ring has the new keys at once. Without keys at the start the layer fails. Later the ring stays as it
 * is where they cannot be had, one line in the log says so, and they are asked for until they are there. What is replaced by
 * what is that of {@link Replaceable}: no key that the ring once had is let go of before the program ends.
 *
 * ```ts
 * // Keys that AWS KMS has wrapped, without its SDK in here: `decrypt` is
 * // (input) => client.send(new DecryptCommand(input)) of @aws-sdk/client-kms.
 * import { KeyRing } from "cal-tokens"
 * import { type Array, Data, Effect, Redacted } from "effect"
 *
 * type Decrypt = (input: {
 *   readonly CiphertextBlob: Uint8Array
 *   readonly EncryptionContext: Record<string, string>
 * }) => Promise<{ readonly Plaintext?: Uint8Array | undefined }>
 *
 * class KmsFailed extends Data.TaggedError("KmsFailed")<{}> {}
 *
 * interface Wrapped {
 *   readonly id: string
 *   readonly ciphertext: string
 * }
 *
 * // The wrapped keys are no secret: they may stand in a table, a bucket or a file. The first one writes.
 * export const layerKms = <E>(decrypt: Decrypt, wrapped: Effect.Effect<Array.NonEmptyReadonlyArray<Wrapped>, E>) => {
 *   const unwrap = ({ ciphertext, id }: Wrapped) =>
 *     Effect.tryPromise({
 *       try: () =>
 *         decrypt({ CiphertextBlob: Buffer.from(ciphertext, "base64"), EncryptionContext: { use: "cal-tokens", id } }),
 *       catch: () => new KmsFailed()
 *     }).pipe(
 *       Effect.flatMap(({ Plaintext }) =>
 *         Plaintext === undefined ? new KmsFailed() : Effect.succeed({ id, secret: Redacted.make(Plaintext) })
 *       )
 *     )
 *   const load = Effect.flatMap(wrapped, (keys) => Effect.forEach(keys, unwrap))
 *   return KeyRing.layerReloading({ load, refreshEvery: "15 minutes" })
 * }
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerReloading = <E, R>(
  options: ReloadingOptions<E, R>
): Layer.Layer<KeyRing, E | ConfigError.ConfigError, R> =>
  Layer.scoped(
    KeyRing,
    Effect.gen(function* () {
      const load = Effect.flatMap(options.load, checked)
      const first = yield* Effect.mapError(load, (error) =>
        error instanceof Unfit ? ConfigError.InvalidData(["encryptionKeys"], error.reason) : error
      )
      const { replace, ring } = makeReplaceable(first)
      const signals = yield* Queue.sliding<void>(1)
      let isFailing = false
      let told = `${ring.ids.join()} `

      const again = load.pipe(
        Effect.disconnect,
        Effect.timeoutFail({
          duration: loadTimeout,
          onTimeout: () => new Unfit({ reason: "they did not come in time" })
        }),
        Effect.flatMap((keys) => Either.mapLeft(replace(keys), (reason) => new Unfit({ reason }))),
        Effect.sandbox,
        Effect.tapErrorCause((cause) => {
          if (isFailing) return Effect.void
          isFailing = true
          return Effect.annotateLogs(
            Effect.logError("The encryption keys cannot be loaded again: the ring stays as it is until they can"),
            { reason: reasonOf(Cause.squash(Cause.flatten(cause))) }
          )
        }),
        Effect.retry(Schedule.union(Schedule.exponential(pauses[0]), Schedule.spaced(pauses[1]))),
        Effect.orDie,
        Effect.flatMap((retired) =>
          Effect.gen(function* () {
            const now = `${ring.ids.join()} ${retired.join()}`
            if (isFailing) yield* Effect.logInfo("The encryption keys are loaded again")
            isFailing = false
            if (now === told) return
            told = now
            yield* Effect.logInfo(
              `The encryption keys have changed: ${ring.ids[0]} writes, ${ring.ids.join(", ")} read`
            )
            if (retired.length > 0) {
              yield* Effect.logError(
                `The encryption keys lack ${retired.join(", ")}: what these sealed opens here until this program ends, and ` +
                  "nowhere after that"
              )
            }
          })
        )
      )

      const ticks =
        options.refreshEvery === undefined ? Stream.never : Stream.tick(options.refreshEvery).pipe(Stream.drop(1))
      yield* Effect.forkScoped(
        Stream.runForEach(Stream.merge(ticks, options.reload ?? Stream.never), () => Queue.offer(signals, undefined))
      )
      yield* Effect.forkScoped(Effect.forever(Effect.zipRight(Queue.take(signals), again)))
      return ring
    })
  )

/** Keys that nobody should use. */
class Unfit extends Data.TaggedError("Unfit")<{ readonly reason: string }> {}

/** By the rules for those that people write. */
const checked = (keys: Keys): Either.Either<Keys, Unfit> =>
  Either.mapLeft(
    parseKeys(
      Redacted.make(
        keys.map(({ id, secret }) => `${id}:${Buffer.from(Redacted.value(secret)).toString("base64")}`).join()
      )
    ),
    (reason) => new Unfit({ reason })
  )

/** What may be told of whatever a program fails with: its words may hold a key. */
const reasonOf = (error: unknown): string =>
  error instanceof Unfit
    ? error.reason
    : Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag)
      ? error._tag
      : error instanceof Error
        ? error.name
        : typeof error

/**
 * A ring of one key that ends with the layer: for what does not outlive the process either.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerEphemeral: Layer.Layer<KeyRing> = Layer.sync(KeyRing, () =>
  make([{ id: "ephemeral", secret: Redacted.make(randomBytes(32)) }])
)

/**
 * The ring with keys in that form.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (keys: Redacted.Redacted): Layer.Layer<KeyRing, ConfigError.ConfigError> =>
  layerConfig(Config.succeed(keys))

/**
 * The ring with keys from configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (config: Config.Config<Redacted.Redacted>): Layer.Layer<KeyRing, ConfigError.ConfigError> =>
  Layer.effect(
    KeyRing,
    Effect.flatMap(config, (text) =>
      Either.match(parseKeys(text), {
        onLeft: (message) => Effect.fail(ConfigError.InvalidData(["encryptionKeys"], message)),
        onRight: (keys) => Effect.succeed(make(keys))
      })
    )
  )

const version = "v1"
const algorithm = "aes-256-gcm"
const nonceBytes = 12
const tagBytes = 16
const form = `${expected}, the first key writes, for example from \`openssl rand -base64 32\``

/** What a ciphertext is bound to, its purpose first. */
type Owner = readonly [purpose: Binding["purpose"] | "flow", ...ReadonlyArray<string>]

const ownerOf = ({ purpose, subject = [], userUlid }: Binding): Owner => [purpose, userUlid, ...subject]

const associatedData = (owner: Owner, keyId: string): Buffer =>
  Buffer.from(JSON.stringify(["cal-tokens", version, keyId, ...owner]), "utf8")

const sessionKey = (key: Key): Key => ({ id: key.id, secret: Redacted.make(derive(key, "session")) })

const derive = ({ secret }: Key, purpose: "seal" | "session" | CodePurpose): Buffer =>
  Buffer.from(hkdfSync("sha256", Redacted.value(secret), "", `cal-tokens ${purpose}`, 32))

const derivedOf = ([first, ...rest]: Keys, purpose: CodePurpose): readonly [Buffer, ...ReadonlyArray<Buffer>] => [
  derive(first, purpose),
  ...rest.map((key) => derive(key, purpose))
]

const codeOf = (key: Buffer, text: string): Buffer => createHmac("sha256", key).update(text).digest()

const isSame = (code: Uint8Array, given: Uint8Array): boolean =>
  code.length === given.length && timingSafeEqual(code, given)
