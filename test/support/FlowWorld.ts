/** The connect flow over a world, and a person with a browser who consents at the sandbox's page. */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { Context, Effect, Layer, Redacted } from "effect"
import { CalClient, type ConfiguredOAuth2Client } from "../../src/CalClient.js"
import * as Clients from "../../src/CalClient/Clients.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as FlowStorage from "../../src/FlowStorage.js"
import * as Sandbox from "../../src/Sandbox.js"
import * as World from "./World.js"

export const returnTo = "https://app.example/settings/calendar?tab=1"

export const { scopes } = World

/** The sandbox's OAuth2 client without its secret. */
const publicClient = {
  clientId: Sandbox.demoOAuth2.clientId,
  redirectUris: Sandbox.demoOAuth2.redirectUris,
  scopes: Sandbox.demoOAuth2.scopes
}

/** World options under which the client is a public one. */
export const isPublic = {
  sandbox: { oauth2: publicClient },
  client: {
    apiUrl: World.apiUrl,
    oauth2: { clientId: publicClient.clientId, redirectUrl: publicClient.redirectUris[0], scopes }
  }
} satisfies World.Options

export interface Options extends ConnectFlow.Options {
  /** What the process is told otherwise of the world's OAuth2 client; `null`: nothing at all. */
  readonly client?: Partial<ConfiguredOAuth2Client> | null
}

/** The flows of a process, over the tokens and the storage of flows at hand. */
export const make = ({ client, ...options }: Options = {}) =>
  Effect.gen(function* () {
    const calClient = yield* CalClient
    const [usual] = calClient.clients.oauth2.all.values()
    const told = client === null || usual === undefined ? undefined : { ...usual, ...client }
    const oauth2 = client === undefined ? calClient.clients.oauth2 : Clients.make(told)
    const flow = ConnectFlow.layer({ returnUrls: ["https://app.example/settings"], ...options }).pipe(
      Layer.provide(Layer.succeed(CalClient, { ...calClient, clients: { ...calClient.clients, oauth2 } }))
    )
    return Context.get(yield* Layer.build(flow), ConnectFlow.ConnectFlow)
  })

/** Where several processes keep their flows. */
export const storage = Layer.build(FlowStorage.layerMemory)

/** One process with flows in memory. */
export const begun = (options?: Options) => Effect.provide(make(options), FlowStorage.layerMemory)

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
