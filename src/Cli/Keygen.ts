/** `cal-tokens keygen`: the one command that prints secrets, and only new ones. */
import { createHash, randomBytes } from "node:crypto"
import { Command, Options } from "@effect/cli"
import { Console, Effect, Option } from "effect"
import * as Environment from "../Environment.js"
import { all } from "../Environment/Variables.js"
import * as KeyRing from "../KeyRing.js"

const options = {
  apiKey: Options.text("api-key").pipe(
    Options.withPseudoName("NAME"),
    Options.withDescription("An API key in place of an encryption key: its secret, and the entry that knows its hash."),
    Options.filterMap(
      Option.liftPredicate((name) => /^[A-Za-z0-9_-]{1,64}$/.test(name)),
      "--api-key must be 1 to 64 letters, digits, _ or -"
    ),
    Options.optional
  )
}

const ring = all.CAL_TOKENS_ENCRYPTION_KEYS

/** The first of k1, k2, … that no key of the ring has, nor any that came before it. */
const nextId = (ids: ReadonlyArray<string>) =>
  `k${1 + Math.max(0, ...ids.flatMap((id) => (/^k\d{1,6}$/.test(id) ? [Number(id.slice(1))] : [])))}`

const encryptionKey = Effect.gen(function* () {
  const set = yield* Environment.loading(ring.config)
  const ids = yield* Option.match(set, {
    onNone: () => Effect.succeed<ReadonlyArray<string>>([]),
    onSome: (keys) => Effect.orDie(Effect.map(KeyRing.parseKeys(keys), (keys) => keys.map(({ id }) => id)))
  })
  yield* Console.log(`${nextId(ids)}:${randomBytes(32).toString("base64")}`)
  yield* Console.error(
    ids.length === 0
      ? `For ${ring.name}. Keep it apart from the database, and do not lose it: nothing else opens the tokens.`
      : `For ${ring.name}, which has ${ids.join(", ")}: last in the list everywhere first, then first in it.`
  )
})

const apiKey = (name: string) =>
  Effect.gen(function* () {
    const secret = randomBytes(32).toString("base64url")
    yield* Console.error("The secret, for the caller. It is shown this once:")
    yield* Console.log(secret)
    yield* Console.error(`The entry, for ${all.CAL_TOKENS_API_KEYS.name} of the service; :scope+scope may follow:`)
    yield* Console.log(`${name}:sha256:${createHash("sha256").update(secret).digest("hex")}`)
  })

export const command = Command.make("keygen", options, ({ apiKey: name }) =>
  Option.match(name, { onNone: () => encryptionKey, onSome: apiKey })
).pipe(Command.withDescription("Print a new encryption key, or with --api-key a new API key."))
