/** The search for leaks finds what is leaked on purpose, on each channel and in each form. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Console, Context, Data, Effect, Exit, Metric, Redacted, Schema } from "effect"
import { Option } from "effect"
import { CalUnavailable, InvalidInput } from "../../src/TokenError.js"
import * as Witness from "../support/Witness.js"

const base64url = (text: string) => Buffer.from(text).toString("base64url")
const header = base64url('{"alg":"HS256"}')

interface Fake {
  readonly payload: string
  readonly signature: string
  readonly token: string
  readonly secret: string
}

let fakes = 0

/** New for every search: metrics are the whole process's, and keep what earlier searches leaked. */
const makeFake = (): Fake => {
  const random = createHash("sha256").update(`fake ${++fakes}`).digest()
  const payload = base64url(random.toString("hex"))
  const signature = random.toString("base64url")
  const secret = `"${random.toString("hex", 0, 4)}\\ef/+ij=kl ${random.toString("hex", 4, 8)}%qrs`
  return { payload, signature, token: `${header}.${payload}.${signature}`, secret }
}

class Payload extends Data.TaggedError("Payload")<{ readonly cause?: unknown; readonly body?: unknown }> {}

const channels: Readonly<Record<string, (leak: string, witness: Witness.Witness) => Effect.Effect<void>>> = {
  "a debug message": (leak) => Effect.logDebug(leak),
  "a trace message": (leak) => Effect.logTrace("refreshing with", leak),
  "a value in a message": (leak) => Effect.logInfo({ deep: [{ down: { here: leak } }] }),
  "a Map in a message": (leak) => Effect.logInfo(new Map([["token", leak]])),
  "a log annotation": (leak) => Effect.logInfo("x").pipe(Effect.annotateLogs({ token: leak })),
  "a deep log annotation": (leak) => Effect.logInfo("x").pipe(Effect.annotateLogs({ pair: { token: [leak] } })),
  "a log span": (leak) => Effect.logInfo("x").pipe(Effect.withLogSpan(leak)),
  "a logged cause": (leak) => Effect.logError("x", Cause.fail(new Payload({ body: leak }))),
  "a logged defect": (leak) => Effect.logError("x", Cause.die(new Error(leak))),
  "a span's name": (leak) => Effect.void.pipe(Effect.withSpan(`refresh ${leak}`)),
  "a span attribute": (leak) => Effect.void.pipe(Effect.withSpan("x", { attributes: { token: leak } })),
  "a late span attribute": (leak) => Effect.annotateCurrentSpan({ token: leak }).pipe(Effect.withSpan("x")),
  "a span event": (leak) =>
    Effect.flatMap(Effect.currentSpan, (span) => Effect.sync(() => span.event("x", 0n, { token: leak }))).pipe(
      Effect.withSpan("x"),
      Effect.ignore
    ),
  "a span's failure": (leak) => Effect.fail(new Payload({ body: leak })).pipe(Effect.withSpan("x"), Effect.ignore),
  "a metric's tag": (leak) => Metric.update(Metric.counter("calls").pipe(Metric.tagged("token", leak)), 1),
  "a metric's name": (leak) => Metric.increment(Metric.counter(`calls ${leak}`)),
  "a counted word": (leak) => Metric.update(Metric.frequency("words"), leak),
  "a console": (leak) => Console.log("token", leak),
  "an error's field": (leak, { noteExit }) =>
    noteExit("x", Exit.fail(new InvalidInput({ field: "token", expected: leak }))),
  "an error's operation": (leak, { noteExit }) =>
    noteExit("x", Exit.fail(new CalUnavailable({ operation: leak, reason: "timeout" }))),
  "an error's cause": (leak, { noteExit }) => noteExit("x", Exit.fail(new Payload({ cause: new Error(leak) }))),
  "a cause of a cause": (leak, { noteExit }) =>
    noteExit("x", Exit.die(new Error("a", { cause: new Error("b", { cause: { row: leak } }) }))),
  "a hidden property": (leak, { noteExit }) =>
    noteExit("x", Exit.fail(Object.defineProperty(new Error("x"), "row", { value: leak, enumerable: false }))),
  "a symbol property": (leak, { noteExit }) => noteExit("x", Exit.fail({ [Symbol("row")]: leak })),
  "a getter": (leak, { noteExit }) =>
    noteExit(
      "x",
      Exit.fail({
        get token() {
          return leak
        }
      })
    ),
  "an answer": (leak, { note }) =>
    Effect.sync(() => note("answer", Option.some(Context.make(Console.Console, leak as never)))),
  "a schema error": (leak, { noteExit }) =>
    Effect.flatMap(Effect.exit(Schema.decodeUnknown(Schema.Struct({ a: Schema.Int }))({ a: leak })), (exit) =>
      noteExit("x", exit)
    ),
  "an unredacted value": (leak) => Effect.logInfo(Redacted.value(Redacted.make(leak)))
}

const forms: Readonly<Record<string, (fake: Fake) => string>> = {
  "a token": ({ token }) => token,
  "a token in a sentence": ({ token }) => `access token=${token}, sorry`,
  "twelve characters of a payload": ({ payload }) => `…${payload.slice(20, 32)}…`,
  "twelve characters of a signature": ({ signature }) => `…${signature.slice(5, 17)}…`,
  "a token in base64": ({ token }) => Buffer.from(token).toString("base64"),
  "a token in base64, one byte on": ({ token }) => Buffer.from(`x${token}`).toString("base64"),
  "a token in base64url, two bytes on": ({ token }) => base64url(`xy${token}`),
  "a token in hexadecimal": ({ token }) => Buffer.from(token).toString("hex"),
  "a secret": ({ secret }) => secret,
  "a secret in JSON": ({ secret }) => JSON.stringify({ secret }),
  "a secret in JSON in JSON": ({ secret }) => JSON.stringify(JSON.stringify({ secret })),
  "a secret in a URL": ({ secret }) => `https://x/?y=${encodeURIComponent(secret)}`,
  "a secret in a form": ({ secret }) => new URLSearchParams({ secret }).toString(),
  "twelve characters of a secret": ({ secret }) => secret.slice(6, 18)
}

const search = (leak: (fake: Fake, witness: Witness.Witness) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const witness = Witness.make()
    const fake = makeFake()
    witness.secrets.add("token", fake.token)
    witness.secrets.add("secret", fake.secret)
    yield* leak(fake, witness).pipe(Effect.provide(witness.layer))
    const found = yield* witness.findings
    for (const secret of [fake.payload, fake.signature, fake.secret]) assert.notInclude(found.join(), secret)
    return found
  })

describe("the search for leaks", () => {
  for (const [channel, leak] of Object.entries(channels)) {
    it.effect(`finds a token in ${channel}`, () =>
      Effect.gen(function* () {
        assert.isAbove((yield* search(({ token }, witness) => leak(token, witness))).length, 0)
      })
    )
    it.effect(`finds nothing in ${channel} when there is nothing`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* search(({ token }, witness) => leak(token.replace(/./g, "x"), witness)), [])
      })
    )
  }

  for (const [form, text] of Object.entries(forms)) {
    it.effect(`finds ${form}`, () =>
      Effect.gen(function* () {
        assert.isAbove((yield* search((fake) => Effect.logInfo(text(fake)))).length, 0)
      })
    )
  }

  it.effect("does not mind a token's header, nor eleven characters", () =>
    Effect.gen(function* () {
      const text = ({ payload, signature }: Fake) => `${header} ${payload.slice(20, 31)} ${signature.slice(5, 16)}`
      assert.deepStrictEqual(yield* search((fake) => Effect.logInfo(text(fake))), [])
    })
  )

  it.effect("learns tokens from texts", () =>
    Effect.gen(function* () {
      const other = makeFake().token
      const found = yield* search((_, { secrets }) => {
        secrets.harvest(`{"accessToken":"${other}"}`)
        return Effect.logInfo(other.slice(-60))
      })
      assert.isAbove(found.length, 0)
    })
  )
})
