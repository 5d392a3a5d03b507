/**
 * Some hours of a service with some thousand users, in virtual time: the product itself, over memory and the simulator, whose
 * mishaps are those of a bad morning. Nothing that the page shows of it is made up.
 */
import { HttpBody, HttpClient } from "@effect/platform"
import { Clock, Duration, Effect, Layer, Option, Redacted, Schema } from "effect"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as HttpClients from "../../src/CalHttp/HttpClients.js"
import * as RefreshAhead from "../../src/RefreshAhead.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as Prng from "../simulation/Prng.js"

/** When the pictures are taken, on a Tuesday morning in Berlin. */
export const end = Date.UTC(2026, 2, 10, 9, 41, 20)

const minute = 60_000
const length = 150 * minute

/** When the story begins. */
export const beginning = end - length - minute

export const clients = {
  managed: { ...Sandbox.demoManaged, clientId: "clx4managed2bookings" },
  oauth2: { ...Sandbox.demoOAuth2, clientId: "clx4oauth2calendar" }
}

/** Cal.com is some way off. */
const faraway = (prng: Prng.Prng) =>
  HttpClients.layerBoth(
    Layer.effect(
      HttpClient.HttpClient,
      Effect.map(HttpClient.HttpClient, (client) =>
        HttpClient.transform(client, (answer) =>
          Effect.suspend(() => Effect.delay(answer, Math.round(90 - 70 * Math.log(1 - prng.next()))))
        )
      )
    )
  ).pipe(Layer.provide(Sandbox.layerHttpClient))

const prng = Prng.make(7, "story")

/** One process of the service, and Cal.com. */
export const layer = CalApi.layer.pipe(
  Layer.merge(RefreshAhead.layer),
  Layer.provideMerge(CalTokens.layer),
  Layer.provideMerge(
    CalClient.layer({
      apiUrl: "https://sandbox.invalid/v2",
      managed: { clientId: clients.managed.clientId, clientSecret: Sandbox.demoManaged.clientSecret },
      oauth2: {
        clientId: clients.oauth2.clientId,
        clientSecret: Sandbox.demoOAuth2.clientSecret,
        redirectUrl: Sandbox.demoOAuth2.redirectUris[0],
        scopes: Sandbox.demoOAuth2.scopes
      }
    })
  ),
  Layer.provideMerge(faraway(prng)),
  Layer.provideMerge(layerMemory),
  Layer.provideMerge(Sandbox.layer(clients)),
  Layer.provide(TokenConfig.layer({ memoryMaxEntries: 10_000, aheadInterval: Duration.seconds(20) }))
)

export interface Person {
  readonly userUlid: UserUlid
  readonly kind: "managed" | "oauth2"
  readonly calUserId: number
}

/** As one whom the app knows for `days` has it. */
const ulidOf = (days: number, prng: Prng.Prng) => {
  const digits = [..."0123456789ABCDEFGHJKMNPQRSTVWXYZ"]
  const at = end - days * 86_400_000
  const time = Array.from({ length: 10 }, (_, place) => digits[Math.floor(at / 32 ** (9 - place)) % 32])
  const random = Array.from({ length: 16 }, () => prng.pick(digits))
  return Schema.decodeSync(UserUlid)([...time, ...random].join(""))
}

/** What the story tells at an instant, in ms before {@link end}. */
interface Scene {
  readonly before: number
  readonly play: Effect.Effect<unknown, unknown>
}

/** What everybody waits for. */
const outage = { from: 36 * minute, to: 31 * minute }

/** Who is worth a look. */
export interface Told {
  /** A second system took the refresh token. */
  readonly lost: UserUlid
  /** The new tokens were lost on their way, and nobody noticed. */
  readonly saved: UserUlid
}

/** So many users, most of whom are in use. Ends at {@link end}. */
export const play = (count: number) =>
  Effect.gen(function* () {
    const prng = Prng.make(7, "people")
    const sandbox = yield* Sandbox.Sandbox
    const tokens = yield* CalTokens.CalTokens
    const storage = yield* TokenStorage
    const api = yield* CalApi.CalApi
    const http = yield* HttpClients.TokenHttp
    const scenes: Array<Scene> = []
    const scene = (before: number, play: Effect.Effect<unknown, unknown>) => void scenes.push({ before, play })

    const scope = "BOOKING_READ PROFILE_READ"
    const person = (kind: Person["kind"], before: number, random = prng): Person => {
      const userUlid = ulidOf(random.int(2, 400), random)
      const email = `${userUlid.toLowerCase()}@example.com`
      const found = { userUlid, kind, calUserId: 0 }
      const connect = Effect.gen(function* () {
        const grant = yield* kind === "managed"
          ? sandbox.grantManaged({ email })
          : sandbox.grantOAuth2({ email, scope })
        found.calUserId = grant.calUserId
        yield* tokens.connect(userUlid, grant.connection, grant)
      })
      scene(before, connect)
      return found
    }
    /** The app does something for them. */
    const use = (person: Person) => Effect.suspend(() => tokens.ensureValid(person.userUlid, { handsOut: false }))
    const useCalendar = (person: Person) =>
      Effect.suspend(() => api.request(person.userUlid, { path: "/me", schema: Schema.Unknown }))
    const expire = (person: Person) => Effect.suspend(() => sandbox.expireAccessTokens(person.calUserId))
    const revoke = (person: Person) => Effect.suspend(() => sandbox.revokeRefreshTokens(person.calUserId))

    const people = Array.from({ length: count }, () => {
      const before = prng.int(70 * minute, length)
      const one = person(prng.chance(0.6) ? "managed" : "oauth2", before)
      // Some are in use, and some come back once.
      if (prng.chance(0.8)) {
        for (let at = before - 1000; at > 0; at -= prng.int(10 * minute, 45 * minute)) scene(at, use(one))
      } else scene(prng.int(0, 65 * minute), use(one))
      return one
    })

    // Of some Cal.com ends the access token before its time.
    for (let n = 0; n < count / 40; n++) {
      const one = prng.pick(people)
      const before = prng.int(1000, 60 * minute)
      scene(before, Effect.zipRight(expire(one), useCalendar(one)))
    }
    // Some people take their access back.
    for (const before of [58, 44, 23, 12, 5]) {
      const one = people.filter(({ kind }) => kind === "oauth2")[prng.int(0, count / 4)]
      if (one !== undefined)
        scene(before * minute, revoke(one).pipe(Effect.zipRight(expire(one)), Effect.zipRight(useCalendar(one))))
    }
    // Cal.com is down for some minutes, and loses an answer now and then.
    const down = Effect.forEach(["refresh", "oauth2Refresh"] as const, (kind) =>
      sandbox.inject(Sandbox.Fault.status(503, { kind, times: Number.MAX_SAFE_INTEGER }))
    )
    scene(outage.from, down)
    scene(outage.to, sandbox.clearFaults)
    for (const before of [50, 27, 19])
      scene(before * minute, sandbox.inject(Sandbox.Fault.dropAfter({ kind: "refresh" })))

    // Somebody whose new tokens were lost on their way, and nobody notices.
    const saved = person("managed", 149 * minute, Prng.make(1, "saved"))
    for (let at = 148 * minute; at > 0; at -= 9 * minute) scene(at, use(saved))
    const loseNext = Effect.suspend(() =>
      sandbox.inject(Sandbox.Fault.dropAfter({ kind: "refresh", calUserId: saved.calUserId }))
    )
    scene(60 * minute, loseNext)

    // Somebody whose refresh token is spent by a second system, which has it from a backup.
    const lost = person("oauth2", 49.9 * minute, Prng.make(1, "lost"))
    for (let at = 49 * minute; at > 0; at -= 9 * minute) scene(at, use(lost))
    const steal = Effect.gen(function* () {
      const row = Option.getOrThrow(yield* storage.find(lost.userUlid))
      const { clientSecret } = Sandbox.demoOAuth2
      yield* http.post("https://sandbox.invalid/v2/auth/oauth2/token", {
        body: HttpBody.unsafeJson({
          client_id: clients.oauth2.clientId,
          client_secret: clientSecret === undefined ? undefined : Redacted.value(clientSecret),
          grant_type: "refresh_token",
          refresh_token: Redacted.value(row.pair.refreshToken)
        })
      })
    })
    scene(24 * minute, steal)

    for (const { before, play } of scenes.sort((a, b) => b.before - a.before)) {
      const now = yield* Clock.currentTimeMillis
      yield* Effect.sleep(end - before - now)
      yield* Effect.forkDaemon(Effect.ignore(play))
    }
    return { lost: lost.userUlid, saved: saved.userUlid }
  })
