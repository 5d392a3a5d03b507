import { createServer } from "node:http"
import { type HttpApp, HttpBody, HttpClient, HttpClientRequest, HttpServer } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect, Layer, Redacted, Ref } from "effect"
import * as Sandbox from "../../src/Sandbox.js"

export const secret = "secret"
export const C = "C"
export const K = "K"
export const redirectUri = "https://example.com/callback"

/** The fixtures of Cal.com's own specs, and beside them a public client. */
export const options: Sandbox.Options = {
  managed: [
    { clientId: C, clientSecret: Redacted.make(secret), redirectUris: ["http://localhost:4321"], name: "Platform" },
    { clientId: "other", clientSecret: Redacted.make("other-secret") }
  ],
  oauth2: [
    {
      clientId: K,
      clientSecret: Redacted.make("test-secret-123"),
      redirectUris: [redirectUri],
      scopes: ["READ_BOOKING", "READ_PROFILE"],
      name: "Confidential"
    },
    {
      clientId: "public",
      redirectUris: [redirectUri],
      scopes: ["PROFILE_READ", "BOOKING_READ", "BOOKING_WRITE"],
      name: "Public <app>"
    }
  ]
}

export const layer = (changes: Sandbox.Options = {}): Layer.Layer<Sandbox.Sandbox | HttpClient.HttpClient> =>
  Layer.provideMerge(Sandbox.layerHttpClient, Sandbox.layer({ ...options, ...changes }))

/** Turns some of the switches by which the sandbox is Cal.com in another mood. */
export const turn = (changes: Partial<Sandbox.Switches>) =>
  Effect.flatMap(Sandbox.Sandbox, ({ switches }) => Ref.update(switches, (before) => ({ ...before, ...changes })))

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly text: string
  readonly body: unknown
  /** A value inside the body, as in `data.user.email`. */
  readonly at: (path: string) => unknown
  readonly message: unknown
}

export interface Input {
  readonly headers?: Readonly<Record<string, string>>
  readonly token?: Redacted.Redacted | string
  readonly json?: unknown
  readonly form?: Readonly<Record<string, string>>
  readonly raw?: string
}

export const base = "https://api.cal.com"

export const send = (method: "GET" | "POST" | "PATCH" | "DELETE" | "OPTIONS", path: string, input: Input = {}) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const response = yield* client.execute(request(method, `${base}${path}`, input))
    return toAnswer(response.status, response.headers, yield* response.text)
  })

export const request = (method: "GET" | "POST" | "PATCH" | "DELETE" | "OPTIONS", url: string, input: Input = {}) => {
  const token = input.token === undefined || typeof input.token === "string" ? input.token : Redacted.value(input.token)
  const body =
    input.json !== undefined
      ? HttpBody.unsafeJson(input.json)
      : input.form !== undefined
        ? HttpBody.text(new URLSearchParams(input.form).toString(), "application/x-www-form-urlencoded")
        : input.raw !== undefined
          ? HttpBody.text(input.raw, "application/json")
          : HttpBody.empty
  return HttpClientRequest.make(method)(url).pipe(
    HttpClientRequest.setBody(body),
    HttpClientRequest.setHeaders({
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...input.headers
    })
  )
}

export const toAnswer = (status: number, headers: Answer["headers"], text: string): Answer => {
  const body = parse(text)
  return { status, headers, text, body, at: (path) => at(body, path), message: at(body, "error.message") }
}

export const at = (value: unknown, path: string): unknown =>
  path
    .split(".")
    .reduce<unknown>(
      (inner, key) => (typeof inner === "object" && inner !== null ? Reflect.get(inner, key) : undefined),
      value
    )

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The unverified claims of a JWT. */
export const claims = (token: unknown): unknown =>
  parse(Buffer.from(String(token).split(".")[1] ?? "", "base64url").toString())

export const clientHeaders = { "x-cal-secret-key": secret }

export const refresh = (refreshToken: Redacted.Redacted | string, clientId = C, clientSecret = secret) =>
  send("POST", `/v2/oauth/${clientId}/refresh`, {
    headers: { "x-cal-secret-key": clientSecret },
    json: { refreshToken: typeof refreshToken === "string" ? refreshToken : Redacted.value(refreshToken) }
  })

export const oauth2Refresh = (
  refreshToken: Redacted.Redacted | string,
  changes: Readonly<Record<string, string>> = {}
) =>
  send("POST", "/v2/auth/oauth2/token", {
    json: {
      client_id: K,
      client_secret: "test-secret-123",
      grant_type: "refresh_token",
      refresh_token: typeof refreshToken === "string" ? refreshToken : Redacted.value(refreshToken),
      ...changes
    }
  })

/** Serves on a socket, for as long as the scope lives; where. */
export const listeningWith = (app: HttpApp.Default, server = createServer()) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      Layer.provideMerge(
        HttpServer.serve(app),
        NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })
      )
    )
    return yield* Effect.provide(
      HttpServer.addressWith((address) =>
        Effect.succeed(address._tag === "TcpAddress" ? `http://127.0.0.1:${address.port}/api` : "")
      ),
      context
    )
  })
