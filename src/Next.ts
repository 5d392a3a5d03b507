/**
 * Handlers for the server of an app that is written in TypeScript: Next.js, and whatever else speaks the Web's `Request` and
 * `Response` (Remix, SvelteKit, Hono, Bun). They connect people through Cal.com's consent, and give pages what they need
 * without ever giving them a token. Nothing of Next is imported. This is `cal-tokens/next`; it has its own README beside it.
 *
 * ```ts
 * // routes.ts: one for the whole app
 * import * as Next from "cal-tokens/next"
 *
 * declare const sessionOf: (request: Request) => Promise<{ readonly userUlid: string } | undefined>
 *
 * export const routes = Next.make({ user: async (request) => (await sessionOf(request))?.userUlid })
 * ```
 *
 * ```ts
 * // app/api/cal/connect/route.ts
 * import { routes } from "./routes.js"
 *
 * export const POST = routes.connect
 * ```
 */
import type { Layer } from "effect"
import * as AtomsApi from "./Api/Atoms.js"
import type * as Numbers from "./Actions/Numbers.js"
import * as Opening from "./Actions/Opening.js"
import * as Rendering from "./Actions/Rendering.js"
import * as Runner from "./Actions/Runner.js"
import * as Answering from "./Next/Answering.js"
import * as Asker from "./Next/Asker.js"
import * as Connect from "./Next/Connect.js"
import * as Handlers from "./Next/Handlers.js"
import * as Services from "./Next/Services.js"

export type { User } from "./Next/Asker.js"
export type { Services } from "./Next/Services.js"

/**
 * Who asks, and what they may.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * The user who is signed in to your app, from the request's cookies: their ULID (or UUID), or `undefined`. Runs in the
   * caller's asynchronous context, so `cookies()` of `next/headers` works. Never take it from a query, a body or a path.
   */
  readonly user: Asker.User
  /**
   * Where tokens are kept and how Cal.com is reached; by default what the environment variables say, shared with
   * `Actions.make()` of the same process.
   */
  readonly layer?: Layer.Layer<Services.Services, unknown> | undefined
  /** As that of `Actions.make`, and the same, so that both share what stands behind them. */
  readonly config?: Numbers.Config | undefined
  /**
   * Where people see your app, `https://app.example.com`: the only origin whose pages are answered. Default: that of the
   * OAuth2 client's redirect URL.
   */
  readonly origin?: string | undefined
  /** Where people may be sent back to; an URL allows its origin, and its path with everything below. Default: `origin`. */
  readonly returnUrls?: ReadonlyArray<string> | undefined
  /** Whether connecting takes the Cal.com account from another of your users, instead of failing. Default: no. */
  readonly replace?: boolean | undefined
  /**
   * The IP address that a request comes from, as the server or the proxy before your app tells it, for the audit trail and for
   * limits by address: the Web's `Request` has none. Runs in the caller's asynchronous context. Never take it from a header that
   * browsers can send as well. Default: no line names an address, and all are counted as one.
   */
  readonly address?: ((request: Request) => string | null | undefined) | undefined
  /** Where {@link Routes}`.me` is in your app. Default: `/api/cal/me`. */
  readonly mePath?: string | undefined
  /**
   * What pages may ask of Cal.com's API with nothing but your app's own session. `methods`: default all; `paths`: prefixes
   * such as `/bookings`, by whole segments; default all.
   */
  readonly me?:
    | {
        readonly methods?: ReadonlyArray<string> | undefined
        readonly paths?: ReadonlyArray<string> | undefined
      }
    | undefined
}

/**
 * Answers a request.
 *
 * @since 0.1.0
 * @category models
 */
export type Handler = (request: Request) => Promise<Response>

/**
 * The handlers; each can be taken out of the object. None rejects, but to let Next break off a prerender. Requests of other
 * sites' pages are refused (403), and whatever fails is JSON: `{ success: false, error, code, retryAfter? }`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Routes {
  /**
   * `POST`, of a plain form: sends the person to Cal.com's consent, and afterwards back to `?returnTo=`, a path of your app
   * (default `/`). Connects, and connects again who has to. Somebody whose session is over reads on a page that they have to
   * sign in, and somebody who opened your app under another host than that of the redirect URL, where it is; programs are told
   * in JSON.
   */
  readonly connect: Handler
  /**
   * `GET`, at the OAuth2 client's redirect URL: connects the user who left by {@link Routes.connect}, in the same browser
   * and with the same session, and sends them on. If that fails, `calError` is appended to where they go, with the failure's
   * code; where nobody can be sent on, a page says why. Your session's cookie has to be `SameSite=Lax`.
   */
  readonly callback: Handler
  /** `GET`, the `refreshUrl` of Cal Atoms: **answers with a token**, of the signed-in user only, and only for an earlier one. */
  readonly atoms: Handler
  /**
   * Any method, at {@link Options.mePath} and everything below: Cal.com's API as the signed-in user, or with a user session
   * as the bearer token.
   */
  readonly me: Handler
  /**
   * `POST`: ends the user's sessions and what Atoms may present; then goes to `?returnTo=`, if that is there. Your own session
   * is yours to end.
   */
  readonly signOut: Handler
  /** Releases connections, unless others share them. Later requests are answered with 503. */
  readonly dispose: () => Promise<void>
}

/**
 * One for each process is enough, in a file that no page imports. Nothing is built or connected before the first request.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options): Routes => {
  const { address, me: rules = {}, mePath = "/api/cal/me", replace = false, user } = options
  const runner = Runner.make(Services.open(Opening.make<Services.Services>(options), options))
  const mount = mePath.endsWith("/") ? mePath : `${mePath}/`

  const answer = Answering.make(runner, address)
  const handler =
    (described: Answering.Described, app: (asker: Asker.Asker) => Answering.App): Handler =>
    (request) =>
      answer(request, described, async () => app(await Asker.ask(user, request)))

  return {
    connect: handler({ name: "connect", methods: ["POST"] }, (asker) => Connect.begin(asker, replace)),
    callback: handler({ name: "callback", methods: ["GET", "HEAD"] }, Connect.comeBack),
    atoms: handler({ name: "atoms", methods: ["GET"], envelope: AtomsApi.envelope }, Handlers.atoms),
    me: (request) =>
      answer(request, { name: "me" }, async () =>
        Handlers.me(request.headers.has("authorization") ? undefined : await Asker.ask(user, request), mount, rules)
      ),
    signOut: handler({ name: "signOut", methods: ["POST"] }, Handlers.signOut),
    dispose: runner.dispose
  }
}

/**
 * Functions of Next's.
 *
 * @since 0.1.0
 * @category models
 */
export interface Revalidating {
  /** Of `next/cache`. */
  readonly revalidatePath: (path: string) => void
  /** Of `next/server`. */
  readonly after: (task: () => void) => void
}

/**
 * What to give to `Actions.make` as `revalidate`. In server actions and routes, paths are revalidated at once. Next refuses
 * that while it renders a page, though a page may be what finds a token expired; then it is done when the page has been sent.
 *
 * ```ts
 * import * as Actions from "cal-tokens/actions"
 * import { revalidating } from "cal-tokens/next"
 * import { revalidatePath } from "next/cache"
 * import { after } from "next/server"
 *
 * export const cal = Actions.make({ revalidate: revalidating({ after, revalidatePath }), revalidatePaths: ["/calendar"] })
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const revalidating =
  ({ after, revalidatePath }: Revalidating) =>
  (paths: ReadonlyArray<string>): void => {
    const revalidate = () => paths.forEach((path) => revalidatePath(path))
    try {
      revalidate()
    } catch (error) {
      if (!Rendering.refuses(error)) throw error
      after(revalidate)
    }
  }
