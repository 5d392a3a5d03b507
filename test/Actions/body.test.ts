/** What is no plain JSON value never reaches Cal.com, and whoever passed it is told what to pass. */
import { Readable } from "node:stream"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Actions from "../../src/Actions.js"
import { accessToken, fakes, user, valid } from "../support/ActionsFakes.js"

const make = () => {
  const { layer, sent } = fakes({ ensureValid: () => Effect.succeed(valid(accessToken)) })
  return { sent, ...Actions.make({ layer }) }
}

const secret = "SECRET-4711"

class Booking {
  readonly #start = secret
  get start() {
    return this.#start
  }
}

class Attendee {
  readonly name = "Ada"
}

const form = () => {
  const form = new FormData()
  form.set("name", secret)
  return form
}

const circular: Record<string, unknown> = { list: [] as Array<unknown> }
circular["list"] = [{ again: circular }]

const deep = () => {
  let value: unknown = {}
  for (let i = 0; i < 100_000; i++) value = [value]
  return value
}

const thrower = {
  get start(): string {
    throw new Error(secret)
  }
}

describe("a body that is no plain JSON value", () => {
  for (const [label, body, error] of [
    ["a form", form(), /^body must be a plain JSON value, and not a FormData: pass Object\.fromEntries\(it\)\.$/],
    [
      "search parameters",
      new URLSearchParams({ a: secret }),
      /^body .* not a URLSearchParams: pass Object\.fromEntries/
    ],
    ["headers", new Headers({ a: secret }), /^body .* not a Headers: pass Object\.fromEntries/],
    ["a map", new Map([["a", secret]]), /^body .* not a Map: pass Object\.fromEntries/],
    ["a set", new Set([secret]), /^body .* not a Set: pass \[\.\.\.it\]/],
    ["a blob", new Blob([secret]), /^body .* not bytes: pass the JSON value that is in them/],
    ["a file", new File([secret], "x.json"), /^body .* not bytes/],
    ["a buffer", Buffer.from(secret), /^body .* not bytes/],
    ["bytes", new TextEncoder().encode(secret), /^body .* not bytes/],
    ["an array buffer", new ArrayBuffer(8), /^body .* not bytes/],
    ["a stream", new Blob([secret]).stream(), /^body .* not a stream: read it/],
    ["a stream of Node's", Readable.from([secret]), /^body .* not a stream: read it/],
    ["a response", new Response(secret), /^body .* not a request or response: pass await it\.json\(\)/],
    ["a promise", Promise.resolve({ a: secret }), /^body .* not a promise: await it/],
    ["an error", new Error(secret), /^body .* not an Error/],
    ["a generator", [secret].values(), /^body .* not an iterable: pass \[\.\.\.it\]/],
    [
      "text that is JSON",
      JSON.stringify({ a: secret }),
      /^body is JSON already: pass the value itself, without JSON\.str/
    ],
    ["an instance without fields", new Booking(), /^body .* not an instance of a class that has no fields/],
    ["a function", () => secret, /^body must be a JSON value\.$/],
    ["a BigInt in it", { eventTypeId: 7n }, /^body\.eventTypeId must not be a BigInt/],
    [
      "a number that is none",
      { attendee: { lengthInMinutes: NaN } },
      /^body\.attendee\.lengthInMinutes must be a finite/
    ],
    ["a map in it", { attendees: [{}, { metadata: new Map() }] }, /^body\.attendees\[1\]\.metadata .* not a Map/],
    ["a function in it", { "key of somebody": [() => secret] }, /^body\[0\] must be a JSON value\.$/],
    ["itself in it", circular, /^body\.list\[0\]\.again must not contain itself\.$/],
    ["more levels than anybody reads", deep(), /^body(\[0\]){100} must not be nested more than 100 levels deep\.$/],
    ["a field that cannot be read", thrower, /^body must be a JSON value\.$/]
  ] as const) {
    it(`is refused before anything is sent: ${label}`, async () => {
      const actions = make()
      const failure = await actions.makeCalApiRequest("/bookings", "POST", body, user)
      assert(Actions.isFailure(failure))
      assert.deepInclude(failure, { code: "InvalidInput", httpStatus: 400 })
      assert.match(failure.error, error)
      assert.notInclude(failure.error, secret)
      assert.deepStrictEqual(actions.sent, [])
    })
  }
})

describe("a body that is one", () => {
  const shared = { name: "Ada" }
  for (const [label, body, sent] of [
    ["an object", { a: [1, "x", null, true, undefined], b: undefined }, `{"a":[1,"x",null,true,null]}`],
    ["one without a prototype", Object.assign(Object.create(null) as object, { a: 1 }), `{"a":1}`],
    ["an empty one", {}, `{}`],
    ["an instance with fields", { attendee: new Attendee() }, `{"attendee":{"name":"Ada"}}`],
    ["what says itself what stands for it", { start: new Date(0) }, `{"start":"1970-01-01T00:00:00.000Z"}`],
    ["an URL", { location: new URL("https://a.example/x") }, `{"location":"https://a.example/x"}`],
    ["the same thing twice", [shared, shared], `[{"name":"Ada"},{"name":"Ada"}]`],
    ["a text", "hello", `"hello"`]
  ] as const) {
    it(`is sent: ${label}`, async () => {
      const actions = make()
      assert.deepStrictEqual(await actions.makeCalApiRequest("/bookings", "POST", body, user), {})
      assert.strictEqual(actions.sent[0]?.body, sent)
    })
  }
})
