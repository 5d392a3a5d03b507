/**
 * Callers who do not wait for each other: requests begin when they are to begin, however long others take, and what they
 * take is counted from then. So many are under way at most; a request that waits for its turn takes longer by that.
 */
import { Effect, Redacted, type Scope } from "effect"
import { hash, type UserUlid } from "../../src/Token.js"
import * as Prng from "../simulation/Prng.js"
import type * as Figures from "./Figures.js"
import { now } from "./Instant.js"
import type { Answer, NoAnswer, Request } from "./Requests.js"
import * as Requests from "./Requests.js"
import type { Service } from "./Service.js"
import type * as Truth from "./Truth.js"
import { type Ensure, isTelling } from "./Waits.js"

export interface User {
  readonly userUlid: UserUlid
  readonly kind: Truth.Kind
  readonly calUserId: number
  /** Somebody not in use, who may come back, with a token that expired long ago. */
  readonly isReturning: boolean
  session?: { readonly key: string; readonly endsAt: number } | undefined
  /** Has to reconnect, or does so: `gone` for good. */
  trouble?: "reconnecting" | "gone" | undefined
}

/** A page with Atoms, which asks when its token is over. */
interface Page {
  readonly user: User
  accessToken: string
  /** When it asks next. */
  at: number
}

export interface Options {
  readonly seed: number
  /** Requests a second, besides those of pages. */
  readonly rate: number
  readonly users: ReadonlyArray<User>
  /** By the place in the fleet. */
  readonly services: ReadonlyArray<Service>
  readonly figures: Figures.Figures
  readonly apiKey: string
  readonly origin: string
  /** A new pair of somebody who consents anew. */
  readonly renew: (user: User) => Effect.Effect<Truth.Pair>
}

export interface Traffic {
  /** Begins requests until this instant, and ends when the last one is answered. */
  readonly until: (end: number) => Effect.Effect<void>
  readonly openPage: (user: User, accessToken: string) => void
  readonly ensures: ReadonlyArray<Ensure>
  /** Whenever a caller was told that a user has to reconnect. */
  readonly reconnects: ReadonlyArray<{ readonly calUserId: number; readonly at: number }>
  readonly deeds: ReadonlyArray<Truth.Deed>
}

const inFlight = 512

/** Half of all that is asked is about one in twenty of those who are in use, and a little of it about the others. */
const busy = { share: 0.5, users: 0.05 } as const
const returning = 0.02

/** What is asked; sessions are those of few users. */
const mix = { ensure: 0.55, proxy: 0.25, session: 0.2 } as const
const withSession = 0.02

export const make = (options: Options): Effect.Effect<Traffic, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { apiKey, figures, origin, rate, seed, services, users } = options
    const prng = Prng.make(seed, "traffic")
    const { send } = yield* Effect.acquireRelease(
      Effect.sync(() => Requests.make(inFlight)),
      ({ close }) => close
    )
    const ensures: Array<Ensure> = []
    const reconnects: Array<{ readonly calUserId: number; readonly at: number }> = []
    const deeds: Array<Truth.Deed> = []
    const pages: Array<Page> = []
    let end = 0

    // -----------------------------------------------------------------------------------------------------------------
    // The balancer before the fleet: who refuses is left out until a new process is there
    // -----------------------------------------------------------------------------------------------------------------

    let turn = 0
    const next = (): Service | undefined => {
      const isIn = services.filter((service) => service.isIn)
      const candidates = isIn.length > 0 ? isIn : services
      return candidates[turn++ % candidates.length]
    }
    const balanced = (request: Omit<Request, "url"> & { readonly path: string }, tries = 4) =>
      Effect.suspend((): Effect.Effect<Answer | NoAnswer> => {
        const service = next()
        if (service === undefined) return Effect.succeed({ status: 0, code: "nobody there" })
        const { path, ...rest } = request
        return Effect.flatMap(send({ ...rest, url: service.url + path }), (answer) => {
          const refuses =
            answer.status === 0
              ? "code" in answer && answer.code === "ECONNREFUSED"
              : answer.status === 503 && "body" in answer && answer.body["code"] === "ShuttingDown"
          if (!refuses) return Effect.succeed(answer)
          service.isIn = false
          return tries > 1 ? balanced(request, tries - 1) : Effect.succeed(answer)
        })
      })

    const asApp = { authorization: `Bearer ${apiKey}` }
    /** Browsers come from everywhere, through a proxy that the service believes. */
    const asBrowser = (user: User, bearer: string) => {
      const n = user.calUserId
      const from = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
      return { authorization: `Bearer ${bearer}`, origin, "x-forwarded-for": from }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // What is asked
    // -----------------------------------------------------------------------------------------------------------------

    const measured = (
      kind: Figures.Kind,
      at: number,
      user: User,
      request: Omit<Request, "url"> & { readonly path: string }
    ) =>
      Effect.map(balanced(request), (answer) => {
        const took = now() - at
        const code = "body" in answer ? answer.body["code"] : answer.code
        const label = `${answer.status}${typeof code === "string" ? ` ${code}` : ""}`
        figures.add(kind, at, took, label)
        if (code === "ReauthorizationRequired") {
          reconnects.push({ calUserId: user.calUserId, at: at + took })
          reconnect(user)
        }
        return { ...answer, took }
      })

    const ensure = (at: number, user: User) => {
      const isActive = !user.isReturning && user.trouble === undefined
      const body = { userUlid: user.userUlid }
      const request = { method: "POST", path: "/api/cal/ensure-token", headers: asApp, body } as const
      return Effect.map(measured("ensure", at, user, request), (answer) => {
        if (!isTelling(answer)) return
        const expiresAt = "body" in answer && answer.status === 200 ? Date.parse(String(answer.body["expiresAt"])) : NaN
        ensures.push({
          calUserId: user.calUserId,
          // Who found out just now that they have to reconnect cannot have been kept fresh.
          isActive: isActive && user.trouble === undefined,
          sentAt: at,
          took: answer.took,
          expiresAt: Number.isNaN(expiresAt) ? undefined : expiresAt
        })
      })
    }

    const proxy = (at: number, user: User) =>
      measured("proxy", at, user, { method: "GET", path: `/api/cal/proxy/${user.userUlid}/me`, headers: asApp })

    const session = (at: number, user: User) =>
      Effect.gen(function* () {
        let asked = at
        if (user.session === undefined || user.session.endsAt <= at) {
          const body = { userUlid: user.userUlid }
          const request = { method: "POST", path: "/api/cal/sessions", headers: asApp, body } as const
          const made = yield* measured("newSession", at, user, request)
          if (!("body" in made) || made.status !== 200) return
          const { expiresAt, session } = made.body
          user.session = { key: String(session), endsAt: Date.parse(String(expiresAt)) - 60_000 }
          asked = now()
        }
        const headers = asBrowser(user, user.session.key)
        const { status } = yield* measured("session", asked, user, { method: "GET", path: "/api/cal/me/me", headers })
        // It ended with the connection.
        if (status === 401) user.session = undefined
      })

    /** Whoever has to consent anew does so a moment later. */
    const reconnect = (user: User) => {
      if (user.trouble !== undefined) return
      user.trouble = user.kind === "managed" ? "gone" : "reconnecting"
      if (user.trouble === "reconnecting") run(Effect.delay(consent(user), 1000 + prng.int(0, 2000)))
    }
    const consent = (user: User) =>
      Effect.gen(function* () {
        const { accessToken, accessTokenExpiresAt, calUserId, refreshToken } = yield* options.renew(user)
        const body = { kind: user.kind, calUserId, accessToken, refreshToken, accessTokenExpiresAt }
        const put = {
          method: "PUT",
          path: `/api/cal/connections/${user.userUlid}`,
          headers: asApp,
          body
        } as const
        while ((yield* balanced(put)).status !== 200) yield* Effect.sleep("500 millis")
        deeds.push({ calUserId, at: now(), what: "handedIn", hash: hash(Redacted.make(refreshToken)) })
        user.session = undefined
        user.trouble = undefined
      })

    // -----------------------------------------------------------------------------------------------------------------
    // Pages
    // -----------------------------------------------------------------------------------------------------------------

    const wakeAtExpiry = (page: Page) => (page.at = expiryOf(page.accessToken) + prng.int(0, 2000))
    const openPage = (user: User, accessToken: string) => {
      const page = { user, accessToken, at: 0 }
      wakeAtExpiry(page)
      pages.push(page)
    }
    const renew = (page: Page, at: number) =>
      Effect.gen(function* () {
        const { user } = page
        const headers = asBrowser(user, page.accessToken)
        const path = "/api/cal/atoms/refresh"
        const answer = yield* measured("atoms", at, user, { method: "GET", path, headers })
        if (answer.status === 200 && "body" in answer) {
          page.accessToken = String(answer.body["accessToken"])
          return wakeAtExpiry(page)
        }
        page.at = now() + 5000
        if (answer.status !== 401 || user.trouble !== undefined) return
        // Loaded again, with what its server gives it.
        const again = { method: "GET", path: `/api/cal/access-token/${user.userUlid}`, headers: asApp } as const
        const loaded = yield* balanced(again)
        if (loaded.status !== 200 || !("body" in loaded)) return
        page.accessToken = String(loaded.body["accessToken"])
        wakeAtExpiry(page)
      })
    const browsing = Effect.gen(function* () {
      while (now() < end) {
        for (const page of pages.filter(({ at }) => at <= now())) {
          run(renew(page, page.at))
          page.at = Infinity
        }
        yield* Effect.sleep("20 millis")
      }
    })

    // -----------------------------------------------------------------------------------------------------------------
    // When
    // -----------------------------------------------------------------------------------------------------------------

    let underWay = 0
    const waiting: Array<Effect.Effect<unknown>> = []
    // Not a semaphore: at each release that wakes all who wait, who are thousands when the fleet is late.
    const run = (request: Effect.Effect<unknown>) => {
      if (underWay < inFlight) begin(request)
      else waiting.push(request)
    }
    const begin = (request: Effect.Effect<unknown>) => {
      underWay++
      Effect.runFork(Effect.ensuring(request, over))
    }
    const over = Effect.sync(() => {
      underWay--
      const next = waiting.shift()
      if (next !== undefined) begin(next)
    })
    const inUse = users.filter(({ isReturning }) => !isReturning)
    const away = users.filter(({ isReturning }) => isReturning)
    const some = (all: ReadonlyArray<User>, share = 1) =>
      all[prng.int(0, Math.max(1, Math.floor(all.length * share)) - 1)]
    const any = (at: number): Effect.Effect<unknown> => {
      const which = prng.next()
      const isSession = which > mix.ensure + mix.proxy
      const isReturning = !isSession && prng.chance(returning)
      const share = isSession ? withSession : prng.chance(busy.share) ? busy.users : 1
      const user = isReturning ? some(away) : some(inUse, share)
      if (user === undefined || user.trouble === "gone") return Effect.void
      return isSession ? session(at, user) : which <= mix.ensure ? ensure(at, user) : proxy(at, user)
    }
    const arriving = Effect.gen(function* () {
      let at = now()
      while (at < end) {
        if (at > now()) yield* Effect.sleep(at - now())
        for (const instant = now(); at <= instant && at < end; at += (-Math.log(1 - prng.next()) * 1000) / rate)
          run(any(at))
      }
    })

    return {
      until: (instant) =>
        Effect.gen(function* () {
          end = instant
          yield* Effect.all([arriving, browsing], { concurrency: "unbounded" })
          while (underWay > 0) yield* Effect.sleep("50 millis")
        }),
      openPage,
      ensures,
      reconnects,
      deeds
    }
  })

/** As the token says: managed ones in ms, the others as any JWT. */
const expiryOf = (accessToken: string): number => {
  const [, payload = ""] = accessToken.split(".")
  const { exp, expiresAt } = JSON.parse(Buffer.from(payload, "base64url").toString()) as {
    readonly exp?: number
    readonly expiresAt?: number
  }
  return expiresAt ?? (exp ?? 0) * 1000
}
