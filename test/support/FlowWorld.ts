/** The connect flow over a world, and a person with a browser who consents at the sandbox's page. */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { Context, Effect, Layer, Redacted } from "effect"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as World from "./World.js"

export const returnTo = "https://app.example/settings/calendar?tab=1"

export const scopes = ["BOOKING_READ", "PROFILE_READ"]

/** The sandbox's OAuth2 client without its secret. */
export const publicClient = {
  clientId: Sandbox.demoOAuth2.clientId,
  redirectUris: Sandbox.demoOAuth2.redirectUris,
  scopes: Sandbox.demoOAuth2.scopes
}

/** World options under which the client is a public one. */
export const isPublic = {
  sandbox: { oauth2: publicClient },
  client: {
    apiUrl: World.apiUrl,
    oauth2: { clientId: publicClient.clientId, redirectUrl: publicClient.redirectUris[0] }
  }
} satisfies World.Options

/** The flows of a process, over the tokens and the storage of flows at hand. */
export const make = (options: ConnectFlow.Options = {}) =>
  Effect.map(
    Layer.build(
      ConnectFlow.layer({
        client: World.clientOptions().oauth2,
        scopes,
        returnUrls: ["https://app.example/settings"],
        ...options
      })
    ),
    (context) => Context.get(context, ConnectFlow.ConnectFlow)
  )

/** One process with flows in memory. */
export const begun = (options?: ConnectFlow.Options) => Effect.provide(make(options), FlowStorage.layerMemory)

export interface Person {
  readonly name?: string
  readonly email: string
}

export const ada: Person = { name: "Ada", email: "ada@example.com" }

/** Where Cal.com sends the browser of somebody who allows or refuses; its query. */
export const consent = (url: string, person: Person = ada, decision: "allow" | "back" = "allow") =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const shown = yield* client.get(url)
    const html = yield* shown.text
    if (shown.status !== 200) return new URL(shown.headers["location"] ?? `about:blank#${html}`).searchParams
    const form = new URLSearchParams({ user: "new", name: person.name ?? person.email, email: person.email, decision })
    for (const [, name = "", value = ""] of html.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)">/g)) {
      form.set(
        name,
        value.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
      )
    }
    const answer = yield* client.execute(
      HttpClientRequest.post(new URL("authorize", url)).pipe(
        HttpClientRequest.bodyText(form.toString(), "application/x-www-form-urlencoded")
      )
    )
    return new URL(answer.headers["location"] ?? "about:blank").searchParams
  }).pipe(
    Effect.provide(Sandbox.layerHttpClient),
    // The browser is not the program that is watched.
    Effect.withTracerEnabled(false),
    Effect.orDie
  )

/** What a browser brings to the app's own callback. */
export const broughtBack = (parameters: URLSearchParams) => ({
  code: Redacted.make(parameters.get("code") ?? "none"),
  state: Redacted.make(parameters.get("state") ?? "none")
})

/** The completion that our callback sends a browser on with. */
export const completionOf = (back: ConnectFlow.Return) =>
  back._tag === "GoOn"
    ? Effect.succeed(Redacted.make(new URL(Redacted.value(back.location)).searchParams.get("completion") ?? ""))
    : Effect.dieMessage(`the callback stopped: ${back.problem}`)
