/** `/openapi.json`, and `/docs`: the same document as a page that needs nothing from anywhere else. */
import { createHash } from "node:crypto"
import { HttpApi, HttpApiBuilder, HttpApiSwagger, type HttpServerResponse, OpenApi } from "@effect/platform"
import { Effect, Layer } from "effect"
import * as Constant from "./Constant.js"

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
const policyOf = (html: string): string =>
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

/**
 * What the platform's page lacks. Swagger UI gives the fields of all schemes one id and the focus, so that the last one
 * has it when the dialog opens, and a click on a label goes to the first: each gets an id of its own, the first the focus.
 */
const plugin = `() => ({
        wrapComponents: {
          HttpAuth: (Original, { React }) => class extends React.Component {
            constructor(props) {
              super(props)
              this.place = React.createRef()
            }
            componentDidMount() {
              this.componentDidUpdate()
              document.querySelector(".auth-container input")?.focus()
            }
            componentDidUpdate() {
              const id = "auth-" + this.props.name
              this.place.current.querySelectorAll("label").forEach((label) => (label.htmlFor = id))
              this.place.current.querySelectorAll("input").forEach((input) => {
                input.id = id
                input.setAttribute("aria-label", this.props.name)
              })
            }
            render() {
              return React.createElement("div", { ref: this.place }, React.createElement(Original, this.props))
            }
          }
        }
      })`

/** Two arrows in a circle. */
const icon =
  "data:image/svg+xml," +
  encodeURIComponent(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="#4990e2" stroke-width="2">` +
      `<path d="M13.5 6A6 6 0 0 0 3 5M3 1.5V5h3.5M2.5 10A6 6 0 0 0 13 11M13 14.5V11H9.5"/></svg>`
  )

const finished = (html: string): Effect.Effect<string> => {
  const whole = html
    .replace("</title>", () => `</title>\n  <link rel="icon" href="${icon}" />`)
    .replace("dom_id: '#swagger-ui',", (found) => `${found}\n        plugins: [${plugin}],`)
  return whole.includes(icon) && whole.includes(plugin)
    ? Effect.succeed(whole)
    : Effect.dieMessage("the platform's documentation page has changed")
}

export const layer = HttpApiBuilder.Router.use((router) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<HttpApi.Api>()
    const { api } = yield* HttpApi.Api
    // Megabytes that most processes never need.
    const lazily = <E>(make: Effect.Effect<Constant.Constant, E, HttpApi.Api>) =>
      Constant.lazily(Effect.provide(make, context))
    yield* router.get(
      "/openapi.json",
      yield* lazily(Effect.suspend(() => Constant.make(JSON.stringify(OpenApi.fromApi(api)), "application/json")))
    )
    yield* router.get(
      path,
      yield* lazily(
        Effect.flatMap(Effect.flatMap(page, finished), (html) =>
          Constant.make(html, "text/html; charset=utf-8", { "content-security-policy": policyOf(html) })
        )
      )
    )
  })
)
