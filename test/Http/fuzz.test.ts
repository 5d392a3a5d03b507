/**
 * Thousands of made-up requests, for every path, query and body schema of the API value and for the proxy's paths. None
 * is a fault of the service, none leaves Cal.com's API, and none brings a secret back, not even the caller's own.
 */
import { randomInt } from "node:crypto"
import { HttpApi, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Either, FastCheck, Layer, Option, Redacted, Ref, Schema, SchemaAST } from "effect"
import { Api } from "../../src/Api.js"
import { callbackPath } from "../../src/Api/OAuth.js"
import * as CalPath from "../../src/CalHttp/CalPath.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import { hash } from "../../src/Token.js"
import * as Shape from "../../src/TokenInput/Shape.js"
import { type Answer, converse, type Request } from "../support/Conversation.js"
import {
  calls,
  Fake,
  keys,
  layer,
  layerFake,
  fakeClient,
  layerServices,
  logger,
  userUlid,
  validToken
} from "../support/HttpFakes.js"

/** What is sent as a value, and must not come back. */
const canary = "CaNaRy-4711"

/** What is made from it is the same tomorrow. */
const seed = 20260115

/** Half of what is sent is made from the one, the other half from a new one, which a failure tells. */
const seeds = [seed, randomInt(2 ** 31)]

// ---------------------------------------------------------------------------------------------------------------------
// What is made up
// ---------------------------------------------------------------------------------------------------------------------

const { array, constant, constantFrom, integer, jsonValue, oneof, option, record, string, tuple } = FastCheck

const nastyText = oneof(
  constantFrom(
    canary,
    `"${canary}"`,
    "",
    " ",
    "\u0000",
    "__proto__",
    "constructor",
    "toString",
    "${7*7}",
    "%s%n",
    "'; drop table users; --",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "\ud800",
    "\u202e\ufeff",
    "ſ".repeat(26),
    "9".repeat(400),
    "1e400",
    "-0",
    "NaN",
    userUlid,
    userUlid.toLowerCase()
  ),
  string({ unit: "binary", maxLength: 40 }),
  string({ unit: "grapheme", maxLength: 40 }),
  integer().map(String)
)

const nastyValue = oneof(
  nastyText,
  jsonValue({ maxDepth: 3 }),
  constantFrom(null, true, 0, -1, 1e308, 2 ** 53, 12, 24, [], {}, [canary], { [canary]: canary }, { length: 1e9 }),
  constant(JSON.parse(`{"__proto__":{"success":true},"constructor":{"prototype":1}}`) as unknown)
)

/** Half of a character is none that could be escaped. */
const escape = (text: string) => encodeURIComponent(Buffer.from(text, "utf8").toString("utf8"))

const fieldsOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.PropertySignature> =>
  SchemaAST.getPropertySignatures(SchemaAST.encodedAST(ast))

/** An object of a schema's fields: right, wrong or missing, each by itself. A token that is redacted is still a text. */
const objectLike = (ast: SchemaAST.AST): FastCheck.Arbitrary<object> => {
  const fields = SchemaAST.getPropertySignatures(ast).map((field) => {
    const valid = Arbitrary.make(Schema.make(SchemaAST.typeAST(field.type)))
    return tuple(
      constant(String(field.name)),
      option(oneof({ arbitrary: valid, weight: 6 }, { arbitrary: nastyValue, weight: 1 }), { freq: 6 })
    )
  })
  return tuple(...fields).map((entries) =>
    Object.fromEntries(entries.filter(([, value]) => value !== null && value !== undefined))
  )
}

/** With a user that exists more often than not: otherwise little is reached behind it. */
const bodyOf = (ast: SchemaAST.AST) =>
  oneof(
    {
      arbitrary: tuple(objectLike(ast), constantFrom(userUlid, userUlid, canary)).map(([body, user]) =>
        JSON.stringify({ ...body, ...("userUlid" in body ? { userUlid: user } : {}) })
      ),
      weight: 6
    },
    { arbitrary: objectLike(ast).map((body) => JSON.stringify(body)), weight: 3 },
    { arbitrary: nastyValue.map((value) => JSON.stringify(value)), weight: 1 },
    { arbitrary: nastyText, weight: 1 }
  )

/** What can stand in a request line. */
const printable = string({
  unit: constantFrom(...Array.from("abzA09-._~!$&'()*+,;=:@%/\\?#[]{}|^`\"<>")),
  maxLength: 30
})

const segment = oneof(
  constant(userUlid),
  constant(canary),
  printable.map((text) => text.replace(/[/?#]/g, "")),
  nastyText.map((text) => escape(text))
)

const queryOf = (ast: SchemaAST.AST) => {
  const names = fieldsOf(ast).map(({ name }) => String(name))
  const entry = tuple(
    constantFrom(...names, canary, "__proto__"),
    oneof(
      nastyText.map((text) => escape(text)),
      constantFrom("1", "50", "active", userUlid)
    )
  )
  return array(entry, { maxLength: 4 }).map((entries) => entries.map(([name, value]) => `${name}=${value}`).join("&"))
}

const generators: Array<FastCheck.Arbitrary<Request>> = []
const bodies: Array<{ readonly name: string; readonly ast: SchemaAST.AST }> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, payloads }) => {
    // The one never ends, and has tests of its own. The other reads queries that no schema tells of: see below.
    if (endpoint.name === "streamEvents" || endpoint.name === "oauthCallback") return
    const parts = endpoint.path
      .split("/")
      .slice(1)
      .map((part) => (part.startsWith(":") ? segment : constant(part)))
    const path = tuple(...parts).map((parts) => `/${parts.join("/")}`)
    const query = Option.match(endpoint.urlParamsSchema, {
      onNone: () => constant(""),
      onSome: ({ ast }) => queryOf(ast).map((query) => `?${query}`)
    })
    const [payload] = payloads.values()
    if (payload !== undefined) bodies.push({ name: endpoint.name, ast: payload.ast })
    const body: FastCheck.Arbitrary<string | undefined> =
      payload === undefined ? constant(undefined) : bodyOf(payload.ast)
    generators.push(
      record({ method: constant(endpoint.method), path, query, body }).map(({ body, method, path, query }) => ({
        method,
        target: path + query,
        body
      }))
    )
  }
})

/** Of a flow of which this service hosts the callback, and of one whose app does. */
const state = "state-that-somebody-is-expected-with"
const stateOfApp = "state-that-an-app-is-to-be-called-with"

const callbackValue = oneof(
  constantFrom(state, state, state, stateOfApp),
  constantFrom("access_denied", "invalid_scope", "invalid_request", "unauthorized_client", "server_error", canary),
  nastyText.map((text) => escape(canary + text)),
  printable.map((text) => text.replace(/#/g, "")),
  constantFrom(
    "",
    "%",
    "%f",
    "%ff",
    "%c0%af",
    "%00",
    "%0d%0aX-Evil:1",
    "+",
    "%u0041",
    "=",
    "%ed%a0%80",
    canary.repeat(200)
  )
)

const callbackName = constantFrom(
  "state",
  "code",
  "error",
  "error_description",
  "iss",
  "st%61te",
  "code[]",
  "__proto__",
  "",
  "%"
)

/** Often as Cal.com writes it, with something more, or with something twice. */
const callbackQuery = tuple(
  constantFrom("", `state=${state}`, `state=${state}`, `state=${stateOfApp}`),
  oneof(
    callbackValue.map((value) => `code=${value}`),
    callbackValue.map((value) => `error=${value}`),
    constant("")
  ),
  oneof(
    { arbitrary: constant([]), weight: 1 },
    {
      arbitrary: array(
        tuple(callbackName, callbackValue).map(([name, value]) => `${name}=${value}`),
        { maxLength: 3 }
      ),
      weight: 1
    }
  ),
  constantFrom("?", "?", "?", "??", "?&&", "")
).map(([first, second, others, mark]) =>
  mark === "" ? "" : mark + [first, second, ...others].filter((part) => part !== "").join("&")
)

/** As often as they are asked for, both flows are there. */
const flows = Layer.succeed(FlowStorage.FlowStorage, {
  sign: Effect.succeed,
  isSigned: () => Effect.succeed(true),
  begin: () => Effect.dieMessage("not used here"),
  find: (stateHash) => Effect.succeed(flowOf(stateHash)),
  take: (stateHash) => Effect.succeed(flowOf(stateHash)),
  keep: ({ stateHash }) => Effect.succeed(Option.isSome(flowOf(stateHash))),
  complete: () => Effect.dieMessage("not used here")
})

const { clientId } = fakeClient

const flowOf = (stateHash: string): Option.Option<FlowStorage.FoundFlow> =>
  stateHash === hash(Redacted.make(state))
    ? Option.some({
        userUlid,
        clientId,
        replace: false,
        isOver: false,
        revision: "1",
        returnTo: "https://app.example/back"
      })
    : stateHash === hash(Redacted.make(stateOfApp))
      ? Option.some({ userUlid, clientId, replace: false, isOver: false, revision: "1" })
      : Option.none()

const layerCallback = Http.layer.pipe(
  Layer.provideMerge(NodeHttpServer.layerTest),
  Layer.provide(ConnectFlow.layer({ returnUrls: ["https://app.example/back"] })),
  Layer.provide(flows),
  Layer.provide(layerServices),
  Layer.provide(ApiKeys.layer([])),
  Layer.provideMerge(Lifecycle.layer),
  Layer.provide(logger),
  Layer.provideMerge(layerFake)
)

// ---------------------------------------------------------------------------------------------------------------------
// What holds for all of it
// ---------------------------------------------------------------------------------------------------------------------

const secrets = [canary, "that-nobody-may-see", ...Object.values(keys)]

const check = (request: Request, answer: Answer | undefined) => {
  const what = `${JSON.stringify(request)}\n${answer?.text}`
  assert(answer !== undefined, what)
  assert.notStrictEqual(answer.status, 500, what)
  assert.include([200, 303, 400, 404, 405, 409, 413], answer.status, what)
  const isHandedOut = request.target.startsWith("/api/cal/access-token/") && answer.status === 200
  const text = isHandedOut ? answer.text.replace(Redacted.value(validToken.accessToken), "") : answer.text
  for (const secret of secrets) assert.isFalse(text.includes(secret), what)
}

const perBatch = 50

/** `batches` of them from each seed. */
const fuzz = (requests: FastCheck.Arbitrary<Request>, batches: number, judge = check) =>
  Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const port = address._tag === "TcpAddress" ? address.port : 0
    const batch = array(requests, { minLength: perBatch, maxLength: perBatch })
    const { logs } = yield* Fake
    let sent = 0
    for (const seed of seeds) {
      yield* Effect.promise(() =>
        FastCheck.assert(
          FastCheck.asyncProperty(batch, async (requests) => {
            const answers = await converse(port, requests)
            requests.forEach((request, index) => judge(request, answers[index]))
            sent += requests.length
          }),
          { numRuns: batches, seed, endOnFailure: true }
        )
      )
      for (const line of logs.splice(0)) {
        const what = `${JSON.stringify(line)}, seed ${seed}`
        assert.strictEqual(line.level, "INFO", what)
        for (const secret of secrets) assert.isFalse(JSON.stringify(line).includes(secret), what)
      }
    }
    assert.strictEqual(sent, seeds.length * batches * perBatch)
  })

describe("made-up requests", () => {
  it.live("of every endpoint are answered, and tell nothing", () =>
    Effect.gen(function* () {
      yield* fuzz(oneof(...generators), 50)
      // They are no nonsense either: each kind of work was reached.
      const names = new Set((yield* calls).map(([name]) => name))
      assert.includeMembers(
        [...names],
        ["ensureValid", "refresh", "connect", "disconnect", "info", "createManagedUser"]
      )
    }).pipe(Effect.provide(layer))
  )

  it.each(bodies)("as the body of $name are taken, or refused without a word of them", ({ ast }) => {
    const decode = Shape.decoder(Schema.make<unknown, unknown, never>(ast), {
      whole: "body",
      expected: "must be a JSON object"
    })
    let accepted = 0
    FastCheck.assert(
      FastCheck.property(oneof(objectLike(ast), nastyValue), (value) => {
        const result = decode(JSON.parse(JSON.stringify(value)))
        if (Either.isRight(result)) accepted++
        else assert.match(result.left.message, /^[A-Za-z]{1,30}(\.\d+(\.[A-Za-z]{1,30})?)? (must be|is) [^]{1,120}\.$/)
        if (Either.isLeft(result)) assert.notInclude(result.left.message, canary)
      }),
      { numRuns: 500, seed }
    )
    assert.isAbove(accepted, 25)
  })

  const apiUrl = "https://api.cal.com/v2"

  /** Pieces of paths that mean different things to different readers. */
  const pathPiece = oneof(
    constantFrom("/", "//", "/./", "/../", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "\\", "@", "%40", ":", ";", "..;"),
    constantFrom(
      "evil.example",
      "//evil.example",
      "https://evil.example",
      "http:",
      "me",
      "bookings",
      "v2",
      "?",
      "#",
      "&"
    ),
    constantFrom(
      "%00",
      "%0d%0a",
      "%25",
      "%252e",
      "%u002e",
      "%c0%ae",
      "%EF%BC%8E",
      "%",
      "%zz",
      "\u00a0",
      "\uff0e",
      "\t"
    ),
    constantFrom("[::1]", "127.0.0.1", "localhost", "0x7f.1", ":8080", "user:pass@", "a b", "'\"<>", "*", "~"),
    printable
  )
  const target = array(pathPiece, { maxLength: 8 }).map((pieces) => pieces.join(""))

  const staysHome = (path: string) => {
    const url = Either.getOrThrow(CalPath.resolve(apiUrl, path))
    // As two readers see it: what was joined, and what a browser's parser makes of it.
    assert.isTrue(url.startsWith(`${apiUrl}/`), url)
    const parsed = new URL(url)
    assert.strictEqual(parsed.origin, "https://api.cal.com", url)
    assert.isTrue(parsed.pathname.startsWith("/v2/"), url)
    assert.strictEqual(parsed.href, url)
    assert.strictEqual(`${parsed.username}${parsed.password}${parsed.hash}`, "", url)
    assert.notMatch(decodeURIComponent(parsed.pathname), /\/\.{1,2}(\/|$)|\\|@|\/\/|[\u0000-\u001f]/, url)
  }

  it("of paths for the proxy stay below Cal.com's API, or are refused", () => {
    let accepted = 0
    FastCheck.assert(
      FastCheck.property(
        oneof(
          target,
          target.map((path) => `/${path}`)
        ),
        (path) => {
          const result = CalPath.resolve(apiUrl, path)
          if (Either.isLeft(result)) {
            assert.strictEqual(result.left._tag, "InvalidInput")
            assert.notInclude(result.left.message, "evil.example")
          } else {
            accepted++
            staysHome(path)
          }
        }
      ),
      { numRuns: 6000, seed }
    )
    assert.isAbove(accepted, 200)
  })

  it.live("to the proxy reach no other origin", () =>
    Effect.gen(function* () {
      const fake = yield* Fake
      const raw = target.map((path) => path.replace(/[^\x21-\x7e]/g, ""))
      const requests = tuple(constantFrom("GET", "POST", "DELETE"), raw, constantFrom("/", "/", "")).map(
        ([method, path, slash]): Request => ({
          method,
          target: `/api/cal/proxy/${userUlid}${slash}${path}`,
          body: method === "POST" ? canary : undefined
        })
      )
      yield* fuzz(requests, 30)
      const sent = (yield* Ref.get(fake.calls)).filter(([name]) => name === "send")
      assert.isAbove(sent.length, 50)
      for (const [, user, request] of sent) {
        assert.strictEqual(user, userUlid)
        staysHome((request as { readonly path: string }).path)
      }
    }).pipe(Effect.provide(layer))
  )

  it.live("to the callback are answered with a page, whatever their query", () => {
    const statuses = new Set<number>()
    const judge = (request: Request, answer: Answer | undefined) => {
      const what = `${JSON.stringify(request)}\n${answer?.text}`
      assert(answer !== undefined, what)
      assert.include([303, 400, 403, 502], answer.status, what)
      if (answer.status === 303)
        assert.match(answer.text, /\r\nlocation: https:\/\/app\.example\/back\?completion=/i, what)
      else
        assert.match(answer.text, /\r\ncontent-type: text\/html; charset=utf-8\r\n[^]*\r\n\r\n<!doctype html>/i, what)
      for (const given of [canary, state, stateOfApp]) assert.isFalse(answer.text.includes(given), what)
      statuses.add(answer.status)
    }
    return Effect.gen(function* () {
      yield* fuzz(
        callbackQuery.map((query) => ({ method: "GET", target: callbackPath + query, body: undefined })),
        22,
        judge
      )
      assert.sameMembers([...statuses], [303, 400, 403, 502])
    }).pipe(Effect.provide(layerCallback))
  })
})
