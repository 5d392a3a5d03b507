/** `/openapi.json`, and `/docs`: the same document as a page that needs nothing from anywhere else. */
import { createHash } from "node:crypto"
import { type HttpApi, HttpApiBuilder, HttpApiSwagger, HttpServerResponse } from "@effect/platform"
import { Effect, Layer } from "effect"

const path = "/docs"

/** The platform's page, which holds Swagger UI whole. It can only be mounted, so a router of its own takes it. */
const page: Effect.Effect<string, never, HttpApi.Api> = Effect.flatMap(HttpApiBuilder.Router.router, ({ routes }) =>
  Effect.gen(function* () {
    for (const { handler } of routes) {
      // A constant: it looks at no request.
      const response = yield* handler as Effect.Effect<HttpServerResponse.HttpServerResponse>
      if (response.body._tag === "Uint8Array") return new TextDecoder().decode(response.body.body)
    }
    return yield* Effect.dieMessage("the platform's documentation page has changed")
  })
).pipe(Effect.provide(Layer.provideMerge(HttpApiSwagger.layer({ path }), HttpApiBuilder.Router.Live)))

/** A script may hold the beginning of another one, as a text: it goes to the first end. */
const scripts = (html: string): ReadonlyArray<string> => {
  const [, rest] = splitAt(html, "<script>")
  if (rest === undefined) return []
  const [script, after = ""] = splitAt(rest, "</script>")
  return [script, ...scripts(after)]
}

const splitAt = (text: string, mark: string): readonly [string, string?] => {
  const at = text.indexOf(mark)
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + mark.length)]
}

const scriptHashes = (html: string) =>
  scripts(html).map((text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`)

/** Runs the page's own script and nothing else; whatever it may want to load comes from here. */
export const policyOf = (html: string): string =>
  [
    "default-src 'none'",
    `script-src ${scriptHashes(html).join(" ")}`,
    // Swagger UI sets styles on its elements as it goes.
    "style-src 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")

export const layer = Layer.merge(
  HttpApiBuilder.middlewareOpenApi(),
  HttpApiBuilder.Router.use((router) =>
    Effect.gen(function* () {
      const context = yield* Effect.context<HttpApi.Api>()
      // Two megabytes that most processes never need. Whoever gives up while it is made spoils it for nobody.
      const response = yield* Effect.cached(
        page.pipe(
          Effect.provide(context),
          Effect.map((html) =>
            HttpServerResponse.html(html).pipe(
              HttpServerResponse.setHeaders({
                "content-security-policy": policyOf(html),
                "cache-control": "no-cache"
              })
            )
          ),
          Effect.uninterruptible
        )
      )
      yield* router.get(path, response)
    })
  )
)
