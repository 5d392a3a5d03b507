/** The app around the handlers, as browsers know it. */
import { type HttpServerRequest } from "@effect/platform"
import { Context, Effect, Layer, Option } from "effect"
import * as Failure from "../Api/Failure.js"
import { callbackPath } from "../Api/OAuth.js"
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

/**
 * Where the way to Cal.com leads back to, if there is one. Without it the app's own pages would not be known for what they are.
 */
export const connectable: Effect.Effect<string, CalClientMisconfigured | InvalidInput, CalClient> = Effect.gen(
  function* () {
    const { clients } = yield* CalClient
    const client = yield* clients.oauth2.choose(undefined)
    if (Option.isNone(client)) return yield* unset("CAL_OAUTH_CLIENT_ID", "oauth2")
    const { redirectUrl } = client.value
    return redirectUrl ?? (yield* unset("CAL_OAUTH_REDIRECT_URL", "oauth2.redirectUrl"))
  }
)

const setting = "CAL_OAUTH_REDIRECT_URL (in a layer of your own, oauth2.redirectUrl)"

const otherHost = Failure.service(
  "Forbidden",
  "The app is open under another host than the one that Cal.com leads back to, where neither its session nor its cookie would be " +
    `known: open it under that of ${setting}.`
)

const otherService = Failure.service(
  "Forbidden",
  "Cal.com leads back to the callback of the HTTP service, under another host than this app's, which connects nobody here: " +
    `set ${setting} to where the app has \`callback\`, and register that at Cal.com.`
)

/** A page that is not where Cal.com leads back to. */
export interface Elsewhere {
  /** Where it does lead back to. */
  readonly home: string
  readonly failure: typeof otherHost
  /** That is not the app, but the HTTP service. */
  readonly isService: boolean
}

/**
 * Whether a way to Cal.com begins where it cannot end: a browser takes the app's cookies to the same host only. What port, the
 * app says by its `origin`. Nothing but `Origin` tells which host people see; proxies change `Host`.
 */
export const elsewhere = ({ headers }: HttpServerRequest.HttpServerRequest, redirectUrl: string) =>
  Effect.map(Site, (site): Option.Option<Elsewhere> => {
    const origin = headers["origin"] ?? ""
    if (!URL.canParse(origin) || !URL.canParse(redirectUrl)) return Option.none()
    const [page, back] = [new URL(origin), new URL(redirectUrl)]
    const isOwn = Option.contains(site.origin, page.origin) && page.hostname === back.hostname
    if (page.origin === back.origin || isOwn) return Option.none()
    const isService = back.pathname.endsWith(callbackPath)
    return Option.some({ home: back.origin, failure: isService ? otherService : otherHost, isService })
  })

/** Where a browser may go, from a path of the app or a whole URL. */
export const returnUrl = (returnTo: string): Effect.Effect<string, InvalidInput, Site> =>
  Effect.flatMap(Site, ({ origin, returnUrls }) =>
    ReturnUrls.check(
      returnUrls,
      returnTo.startsWith("/") ? `${Option.getOrElse(origin, () => "")}${returnTo}` : returnTo
    )
  )
