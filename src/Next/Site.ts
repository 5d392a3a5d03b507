/** The app around the handlers, as browsers know it. */
import { type HttpServerRequest } from "@effect/platform"
import { Context, Effect, Layer, Option } from "effect"
import * as ReturnUrls from "../ConnectFlow/ReturnUrls.js"
import { CalClient } from "../CalClient.js"
import { CalClientMisconfigured, type InvalidInput, noClient } from "../TokenError.js"
import * as Origins from "../Http/Origins.js"

export interface Options {
  readonly origin?: string | undefined
  readonly returnUrls?: ReadonlyArray<string> | undefined
}

export class Site extends Context.Tag("cal-tokens/Next/Site")<
  Site,
  {
    /** Where people see the app. None: nobody said, and no OAuth2 client says it. */
    readonly origin: Option.Option<string>
    readonly returnUrls: ReadonlyArray<string>
  }
>() {}

const checked = (option: string, url: string): Effect.Effect<URL, string> =>
  /^https?:\/\//i.test(url) && URL.canParse(url)
    ? Effect.succeed(new URL(url))
    : Effect.fail(`${option} of Next.make must be an URL, such as https://app.example.com`)

/** People come back from Cal.com to the app: that URL is on its origin. Fails with what is wrong with the options. */
export const layer = ({ origin, returnUrls }: Options): Layer.Layer<Site, string, CalClient> =>
  Layer.effect(
    Site,
    Effect.gen(function* () {
      const { clients } = yield* CalClient
      const [client] = clients.oauth2.all.values()
      const found = Option.fromNullable(origin ?? client?.redirectUrl)
      const own = yield* Effect.transposeMapOption(found, (url) =>
        Effect.map(checked("origin", url), ({ origin }) => origin)
      )
      yield* Effect.forEach(returnUrls ?? [], (url) => checked("returnUrls", url), { discard: true })
      return { origin: own, returnUrls: returnUrls ?? Option.toArray(own) }
    })
  )

/**
 * Refuses what a page of another site has sent: the app's cookies came along. Browsers say so themselves
 * (`Sec-Fetch-Site`), and where they are too old for that, by `Origin`.
 */
export const own = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const origins = Option.toArray((yield* Site).origin)
  const isOwn = request.headers["sec-fetch-site"] === "same-origin" || Origins.isAllowed(origins, request)
  if (!isOwn) return yield* Origins.refuse(origins, request, unknownOrigin)
})

const unknownOrigin = "none is known: CAL_OAUTH_REDIRECT_URL is not set, and Next.make was given no origin"

const unset = (variable: string, inCode: string) =>
  new CalClientMisconfigured({
    clientId: noClient,
    reason: `nobody can be sent to Cal.com: ${variable} is not set (in a layer of your own, ${inCode})`
  })

/** Whether there is a way to Cal.com and back. Without it the app's own pages would not be known for what they are. */
export const connectable: Effect.Effect<void, CalClientMisconfigured | InvalidInput, CalClient> = Effect.gen(
  function* () {
    const { clients } = yield* CalClient
    const client = yield* clients.oauth2.choose(undefined)
    if (Option.isNone(client)) return yield* unset("CAL_OAUTH_CLIENT_ID", "oauth2")
    if (client.value.redirectUrl === undefined) return yield* unset("CAL_OAUTH_REDIRECT_URL", "oauth2.redirectUrl")
  }
)

/** Where a browser may go, from a path of the app or a whole URL. */
export const returnUrl = (returnTo: string): Effect.Effect<string, InvalidInput, Site> =>
  Effect.flatMap(Site, ({ origin, returnUrls }) =>
    ReturnUrls.check(
      returnUrls,
      returnTo.startsWith("/") ? `${Option.getOrElse(origin, () => "")}${returnTo}` : returnTo
    )
  )
