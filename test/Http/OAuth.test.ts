/** The connect flow over a real socket: endpoints, the browser's way, and the pages that people see. */
import { createHash } from "node:crypto"
import { HttpApiBuilder, HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, HashMap, Layer, Logger, Option, Schema } from "effect"
import { AuthorizeUrlMade } from "../../src/Api/OAuth.js"
import type * as CalClient from "../../src/CalClient.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Http from "../../src/Http.js"
import * as ApiKeys from "../../src/ApiKeys.js"
import * as KeyRing from "../../src/KeyRing.js"
import * as Lifecycle from "../../src/Http/Lifecycle.js"
import * as OAuthPages from "../../src/Http/OAuthPages.js"
import { Sandbox } from "../../src/Sandbox.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import * as Flow from "../support/FlowWorld.js"
import { StorageTap } from "../support/StorageTap.js"
import * as World from "../support/World.js"

const { user } = World
const { returnTo } = Flow
const key = "manage-only-key-0123456789abcdefghij"
const proxyKey = "proxy-only-key-0123456789abcdefghijk"
const apiKeys = Either.getOrThrow(ApiKeys.parse(`app:${key}:manage,proxy:${proxyKey}:proxy`))

const callback = "/api/cal/oauth/callback"

/** The sandbox beside the service, as in the demo. */
const sandboxRoutes = HttpApiBuilder.Router.use((router) =>
  Effect.flatMap(Sandbox, ({ app }) => router.mountApp("/_sandbox", app))
)

/** Where the world's clients consent. */
const here = (client: CalClient.Options): CalClient.Options => ({
  ...client,
  oauth2: client.oauth2 && { ...client.oauth2, authorizeUrl: "https://app.cal.test/_sandbox/auth/oauth2/authorize" }
})

const layerWith = (
  connectFlow: Layer.Layer<never, never, never> | typeof configured,
  logs: Array<string> = [],
  flows = FlowStorage.layerMemory,
  world: World.Options = {}
) =>
  Http.layerWith({ routes: sandboxRoutes }).pipe(
    Layer.provideMerge(NodeHttpServer.layerTest),
    Layer.provide(ApiKeys.layer(apiKeys)),
    Layer.provide(Lifecycle.layer),
    Layer.provide(connectFlow),
    Layer.provide(flows),
    Layer.provide(KeyRing.layerEphemeral),
    Layer.provideMerge(World.layer({ ...world, client: here(world.client ?? World.clientOptions()) })),
    Layer.provide(
      Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ annotations, message }) => {
          logs.push(JSON.stringify([message, ...HashMap.entries(annotations)]))
        })
      )
    )
  )

const configured = ConnectFlow.layer({ returnUrls: ["https://app.example/settings"] })

interface SendOptions {
  readonly key?: string
  readonly form?: string
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

const send = (method: "GET" | "HEAD" | "POST", path: string, options: SendOptions = {}) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const { body, form, headers = {} } = options
    const request = HttpClientRequest.make(method)(path).pipe(
      HttpClientRequest.setHeaders(headers),
      options.key === undefined ? (self) => self : HttpClientRequest.bearerToken(options.key),
      body === undefined ? (self) => self : HttpClientRequest.bodyText(JSON.stringify(body), "application/json"),
      form === undefined ? (self) => self : HttpClientRequest.bodyText(form, "application/x-www-form-urlencoded")
    )
    const response = yield* client.execute(request)
    return { status: response.status, headers: response.headers, text: yield* response.text }
  })

const api = (path: string, body: unknown, apiKey: string | undefined = key) =>
  Effect.map(send("POST", `/api/cal/oauth/${path}`, { body, ...(apiKey === "" ? {} : { key: apiKey }) }), (answer) => ({
    status: answer.status,
    json: JSON.parse(answer.text) as Readonly<Record<string, unknown>>
  }))

/** Every host of the test is the one server. */
const local = (url: unknown) => {
  const { pathname, search } = new URL(String(url))
  return pathname + search
}

const begin = (options: { readonly returnTo?: string } = {}) =>
  Effect.map(api("authorize-url", { userUlid: user(), ...options }), ({ json, status }) => {
    assert.strictEqual(status, 200)
    return json
  })

/** A person opens the page at Cal.com and allows or refuses; where the browser is sent. */
const consent = (url: unknown, decision = "allow") =>
  Effect.gen(function* () {
    const page = yield* send("GET", local(url))
    assert.strictEqual(page.status, 200)
    // Its form leads to the app in the end, and may.
    assert.notInclude(page.headers["content-security-policy"] ?? "", "form-action")
    const form = new URLSearchParams({ user: "new", name: "Ada", email: "ada@example.com", decision })
    for (const [, name = "", value = ""] of page.text.matchAll(/type="hidden" name="(\w+)" value="([^"]*)"/g)) {
      form.set(
        name,
        value.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
      )
    }
    const answer = yield* send("POST", "/_sandbox/auth/oauth2/authorize", { form: form.toString() })
    return answer.headers["location"] ?? ""
  })

const isConnected = Effect.flatMap(StorageTap, ({ raw }) => Effect.map(raw.find(user()), Option.isSome))

describe("a person connects", () => {
  it.effect("through the callback of this service", () => {
    const logs: Array<string> = []
    return Effect.gen(function* () {
      const { expiresAt, success, url } = yield* begin({ returnTo })
      assert.isTrue(success)
      assert.strictEqual(expiresAt, "2026-01-15T12:10:00.000Z")
      const redirect = yield* consent(url)
      assert.match(redirect, /^http:\/\/127\.0\.0\.1:4000\/api\/cal\/oauth\/callback\?code=/)
      const back = yield* send("GET", local(redirect))
      assert.strictEqual(back.status, 303)
      assert.strictEqual(back.text, "")
      assert.strictEqual(back.headers["cache-control"], "no-store")
      assert.strictEqual(back.headers["referrer-policy"], "no-referrer")
      const location = new URL(back.headers["location"] ?? "")
      const completion = location.searchParams.get("completion") ?? ""
      location.searchParams.delete("completion")
      assert.strictEqual(location.href, returnTo)
      assert.isFalse(yield* isConnected)
      // Somebody else's session is refused, and so is the right one afterwards: begin again.
      const other = yield* api("confirm", { userUlid: user(2), completion })
      assert.deepInclude(other.json, { success: false, code: "InvalidInput" })
      assert.strictEqual((yield* api("confirm", { userUlid: user(), completion })).status, 400)
      const again = yield* send("GET", local(yield* consent((yield* begin({ returnTo })).url)))
      const second = new URL(again.headers["location"] ?? "").searchParams.get("completion") ?? ""
      const confirmed = yield* api("confirm", { userUlid: user().toLowerCase(), completion: second })
      assert.strictEqual(confirmed.status, 200)
      assert.deepStrictEqual(Object.keys(confirmed.json), ["success", "calUserId"])
      assert.isNumber(confirmed.json["calUserId"])
      assert.isTrue(yield* isConnected)
      assert.isTrue(yield* World.isStoredPairLive())
      const all = logs.join("\n")
      assert.include(all, "confirmCompletion")
      for (const secret of [completion, second, ...new URL(redirect).searchParams.values()]) {
        assert.isAbove(secret.length, 20)
        assert.notInclude(all, secret)
      }
    }).pipe(Effect.provide(layerWith(configured, logs)))
  })

  it.effect("through the app's own callback", () =>
    Effect.gen(function* () {
      const { searchParams } = new URL(yield* consent((yield* begin()).url))
      const body = { userUlid: user(), ...Object.fromEntries(searchParams) }
      const { json, status } = yield* api("exchange", body)
      assert.strictEqual(status, 200)
      assert.deepStrictEqual({ ...json, calUserId: 0 }, { success: true, calUserId: 0 })
      assert.isTrue(yield* World.isStoredPairLive())
      const replay = yield* api("exchange", body)
      assert.strictEqual(replay.status, 400)
      assert.match(String(replay.json["error"]), /^state is not this user's, or was used, or has expired: start again/)
    }).pipe(Effect.provide(layerWith(configured)))
  )
})

describe("a page that asks Cal.com itself", () => {
  /** Where the page's part of Cal.com leads, made of nothing but what the page was given. */
  const asked = ({ codeChallenge, codeChallengeMethod, redirectUri, scopes, state }: typeof AuthorizeUrlMade.Type) => {
    const query = { client_id: "sandbox-oauth-client", redirect_uri: redirectUri, state, scope: scopes.join(",") }
    const challenge = { code_challenge: codeChallenge ?? "", code_challenge_method: codeChallengeMethod ?? "" }
    return `https://app.cal.test/_sandbox/auth/oauth2/authorize?${new URLSearchParams({ ...query, ...challenge }).toString()}`
  }

  for (const [kind, options, names] of [
    ["with a secret", {}, []],
    ["that is public", Flow.isPublic, ["codeChallenge", "codeChallengeMethod"]]
  ] as const) {
    it.effect(`is given all that it needs, for a client ${kind}`, () =>
      Effect.gen(function* () {
        const begun = yield* begin()
        const given = ["success", "url", "expiresAt", "state", "redirectUri", "scopes"]
        assert.sameMembers(Object.keys(begun), [...given, ...names])
        const { searchParams } = new URL(yield* consent(asked(Schema.decodeUnknownSync(AuthorizeUrlMade)(begun))))
        const body = { userUlid: user(), ...Object.fromEntries(searchParams) }
        assert.strictEqual((yield* api("exchange", body)).status, 200)
        assert.isTrue(yield* World.isStoredPairLive())
      }).pipe(Effect.provide(layerWith(configured, [], FlowStorage.layerMemory, options)))
    )
  }
})

describe("the endpoints", () => {
  it.effect("take keys with the scope, and bodies of their shape, and repeat no value", () =>
    Effect.gen(function* () {
      for (const path of ["authorize-url", "exchange", "confirm"]) {
        assert.strictEqual((yield* api(path, {}, "")).status, 401, path)
        assert.strictEqual((yield* api(path, {}, proxyKey)).status, 403, path)
      }
      for (const [path, body, error] of [
        ["authorize-url", {}, "userUlid is required."],
        ["authorize-url", { userUlid: "NOT-ONE" }, /^userUlid must be a ULID/],
        [
          "authorize-url",
          { userUlid: user(), returnTo: "https://evil.example/NOT-ONE" },
          /^returnTo must be a plain URL/
        ],
        [
          "authorize-url",
          { userUlid: user(), returnTo: "https://app.example/settings/..;/NOT-ONE" },
          /^returnTo must be a plain/
        ],
        ["authorize-url", { userUlid: user(), returnTo: `${returnTo}&completion[]=NOT-ONE` }, /^returnTo must have no/],
        ["authorize-url", { userUlid: user(), replace: "NOT-ONE" }, "replace must be boolean."],
        ["exchange", { userUlid: user(), code: "NOT-ONE" }, "state is required."],
        ["exchange", { userUlid: user(), code: "", state: "NOT-ONE" }, /^code must be a token/],
        ["exchange", { userUlid: user(), code: "NOT ONE", state: "NOT-ONE" }, /^code must be a token/],
        ["confirm", { userUlid: user() }, "completion is required."],
        ["confirm", { userUlid: user(), completion: "NOT-ONE\n" }, /^completion must be a token/],
        ["confirm", { userUlid: user(), completion: "NOT-ONE" }, /^completion is not this user's/]
      ] as const) {
        const { json, status } = yield* api(path, body)
        assert.strictEqual(status, 400, String(error))
        assert.strictEqual(json["code"], "InvalidInput")
        if (typeof error === "string") assert.strictEqual(json["error"], error)
        else assert.match(String(json["error"]), error)
        assert.notMatch(JSON.stringify(json), /NOT.ONE/)
      }
    }).pipe(Effect.provide(layerWith(configured)))
  )

  for (const [name, layer, client] of [
    ["an OAuth2 client", configured, { ...World.clientOptions(), oauth2: undefined }],
    ["the flow at all", Layer.empty, World.clientOptions()]
  ] as const) {
    it.effect(`say what is missing without ${name}; the callback knows nobody`, () =>
      Effect.gen(function* () {
        const { json, status } = yield* api("authorize-url", { userUlid: user() })
        assert.strictEqual(status, 502)
        assert.match(
          String(json["error"]),
          /^Connecting through OAuth2 is not configured: it needs an OAuth2 client with a redirect URL\.$/
        )
        assert.strictEqual((yield* send("GET", `${callback}?code=c&state=s`)).status, 400)
      }).pipe(Effect.provide(layerWith(layer, [], FlowStorage.layerMemory, { client })))
    )
  }
})

/** What has to hold for every page. */
const isPlainPage = (answer: { readonly headers: Readonly<Record<string, string>>; readonly text: string }) => {
  const { headers, text } = answer
  assert.strictEqual(headers["content-type"], "text/html; charset=utf-8")
  assert.strictEqual(headers["cache-control"], "no-store")
  assert.strictEqual(headers["referrer-policy"], "no-referrer")
  assert.strictEqual(headers["x-content-type-options"], "nosniff")
  assert.isUndefined(headers["set-cookie"])
  const [, style = ""] = /<style>([^]*?)<\/style>/.exec(text) ?? []
  const hash = createHash("sha256").update(style).digest("base64")
  assert.strictEqual(
    headers["content-security-policy"],
    `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
  )
  assert.match(text, /^<!doctype html>\n<html lang="en">/)
  assert.include(text, '<meta name="viewport" content="width=device-width, initial-scale=1">')
  assert.match(text, /<title>[^<]{10,60}<\/title>/)
  assert.match(text, /<h1>[^<]{10,60}<\/h1>\n(<p>[^<]{20,}<\/p>\n)+/)
  assert.notMatch(text, /<script|<img|<form|<iframe|<link|http-equiv|javascript:|style="|\son\w+=/i)
}

const links = (text: string) =>
  Array.from(text.matchAll(/href="([^"]*)"/g), ([, href = ""]) =>
    href.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
  )

describe("the callback's pages", () => {
  it.effect("say what happened, with a way back where a state tells it, and repeat nothing of the query", () =>
    Effect.gen(function* () {
      const evil = "%3Cscript%3Ealert(1)%3C/script%3E%22REFLECTED"
      const titles = new Set<string>()
      for (const [query, status, words] of [
        ["error=access_denied", 403, /did not allow/],
        ["error=invalid_scope", 502, /invalid_scope/],
        ["error=invalid_request", 502, /invalid_request/],
        ["error=unauthorized_client", 502, /unauthorized_client/],
        ["error=server_error", 502, /Wait a minute/],
        [`error=${evil}`, 502, /not known here/],
        ["code=", 400, /did not arrive whole/]
      ] as const) {
        const { url } = yield* begin({ returnTo })
        const state = new URL(String(url)).searchParams.get("state")
        const answer = yield* send("GET", `${callback}?${query}&error_description=${evil}&x=${evil}&state=${state}`)
        assert.strictEqual(answer.status, status, query)
        isPlainPage(answer)
        assert.match(answer.text, words)
        assert.deepStrictEqual(links(answer.text), [returnTo])
        assert.notMatch(answer.text, /REFLECTED|alert/)
        assert.notInclude(answer.text, String(state))
        titles.add(answer.text)
      }
      assert.strictEqual(titles.size, 7)
      for (const query of [`code=${evil}&state=${evil}`, "", `state=${evil}&error=access_denied`, "error=%"]) {
        const answer = yield* send("GET", `${callback}?${query}`)
        assert.strictEqual(answer.status, 400)
        isPlainPage(answer)
        assert.match(answer.text, /no longer works/)
        assert.deepStrictEqual(links(answer.text), [])
        assert.notMatch(answer.text, /REFLECTED|alert/)
      }
      assert.isFalse(yield* isConnected)
    }).pipe(Effect.provide(layerWith(configured)))
  )

  it.effect("are not opened by who only looks or fetches ahead: nothing is used up", () =>
    Effect.gen(function* () {
      const redirect = local(yield* consent((yield* begin({ returnTo })).url))
      const head = yield* send("HEAD", redirect)
      assert.deepStrictEqual([head.status, head.text, head.headers["location"]], [200, "", undefined])
      for (const [name, value] of [
        ["Sec-Purpose", "prefetch"],
        ["Sec-Purpose", "prefetch;prerender"],
        ["Sec-Purpose", "prefetch;anonymous-client-ip"],
        ["Purpose", "prefetch"],
        ["X-Purpose", "preview"],
        ["X-Moz", "prefetch"]
      ] as const) {
        const answer = yield* send("GET", redirect, { headers: { [name]: value } })
        assert.deepStrictEqual([answer.status, answer.text], [503, ""], name)
        assert.strictEqual(answer.headers["cache-control"], "no-store")
        assert.isUndefined(answer.headers["location"])
      }
      const refused = `${redirect.replace(/code=[^&]*/, "error=access_denied")}`
      assert.strictEqual((yield* send("HEAD", refused)).status, 200)
      assert.strictEqual((yield* send("GET", refused, { headers: { "sec-purpose": "prefetch" } })).status, 503)
      const back = yield* send("GET", redirect, { headers: { "sec-fetch-mode": "navigate" } })
      const completion = new URL(back.headers["location"] ?? "").searchParams.get("completion")
      for (const ahead of ["HEAD", "GET"] as const) {
        yield* send(ahead, redirect, { headers: { purpose: "prefetch" } })
      }
      assert.strictEqual((yield* api("confirm", { userUlid: user(), completion })).status, 200)
    }).pipe(Effect.provide(layerWith(configured)))
  )

  it.effect("are followed as often as a browser likes: a new completion until one is confirmed, then none", () =>
    Effect.gen(function* () {
      const redirect = local(yield* consent((yield* begin({ returnTo })).url))
      const locations = yield* Effect.replicateEffect(
        Effect.map(send("GET", redirect), ({ headers, status }) => {
          assert.strictEqual(status, 303)
          return headers["location"] ?? ""
        }),
        3
      )
      assert.strictEqual(new Set(locations).size, 3)
      const statuses = yield* Effect.forEach([...locations, locations[2]], (location = "") =>
        Effect.map(
          api("confirm", { userUlid: user(), completion: new URL(location).searchParams.get("completion") }),
          ({ status }) => status
        )
      )
      assert.deepStrictEqual(statuses, [400, 400, 200, 400])
      const after = yield* send("GET", redirect)
      assert.deepStrictEqual([after.status, after.headers["location"]], [303, returnTo])
      assert.strictEqual(after.headers["referrer-policy"], "no-referrer")
      const other = yield* send("GET", redirect.replace(/code=[^&]*/, "code=another"))
      assert.strictEqual(other.status, 400)
      isPlainPage(other)
      assert.match(other.text, /If you have connected already, you are done/)
      assert.deepStrictEqual(links(other.text), [returnTo])
    }).pipe(Effect.provide(layerWith(configured)))
  )

  it.effect("tell a person who refused, or whose app is to be called itself", () =>
    Effect.gen(function* () {
      const refused = yield* send("GET", local(yield* consent((yield* begin({ returnTo })).url, "back")))
      assert.strictEqual(refused.status, 403)
      const { url } = yield* begin()
      const nowhere = yield* send("GET", local(yield* consent(url)))
      assert.strictEqual(nowhere.status, 400)
      isPlainPage(nowhere)
      assert.match(nowhere.text, /come back somewhere else/)
      assert.deepStrictEqual(links(nowhere.text), [])
    }).pipe(Effect.provide(layerWith(configured)))
  )

  it.effect("ask for patience while the database is away, and the same address works afterwards", () => {
    const logs: Array<string> = []
    let isAway = false
    const flows = Layer.effect(
      FlowStorage.FlowStorage,
      Effect.map(FlowStorage.FlowStorage, (storage) =>
        FlowStorage.FlowStorage.of({
          ...storage,
          find: (hash) =>
            Effect.suspend(() =>
              isAway
                ? Effect.fail(new StorageUnavailable({ operation: "connectFlow.find", reason: "away" }))
                : storage.find(hash)
            )
        })
      )
    ).pipe(Layer.provide(FlowStorage.layerMemory))
    return Effect.gen(function* () {
      const redirect = local(yield* consent((yield* begin({ returnTo })).url))
      isAway = true
      const answer = yield* send("GET", redirect)
      assert.strictEqual(answer.status, 503)
      isPlainPage(answer)
      assert.match(answer.text, /load this page again/)
      assert.deepStrictEqual(
        logs.filter((line) => line.includes("StorageUnavailable") && line.includes("oauthCallback")).length,
        1
      )
      isAway = false
      assert.strictEqual((yield* send("GET", redirect)).status, 303)
    }).pipe(Effect.provide(layerWith(configured, logs, flows)))
  })

  it.effect("are for GET, need no key, and escape an origin", () =>
    Effect.gen(function* () {
      const post = yield* send("POST", callback, { body: {} })
      assert.strictEqual(post.status, 405)
      assert.strictEqual(post.headers["allow"], "GET")
      const response = OAuthPages.stopped("denied", Option.some('https://app.example/"><b>&'))
      assert(response.body._tag === "Uint8Array")
      const text = new TextDecoder().decode(response.body.body)
      assert.notInclude(text, "<b>")
      assert.include(text, 'href="https://app.example/&#34;&#62;&#60;b&#62;&#38;"')
    }).pipe(Effect.provide(layerWith(configured)))
  )
})
