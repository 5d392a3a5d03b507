/** A fleet under load on a Cal.com that has mishaps: it is set up, driven, harmed on the way, ended, and judged. */
import { randomBytes } from "node:crypto"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { PgClient } from "@effect/sql-pg"
import { Context, Duration, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import * as KeyRing from "../../src/KeyRing.js"
import type { UserUlid } from "../../src/Token.js"
import * as Migrations from "../../src/TokenStorage/Postgres/Migrations.js"
import * as Postgres from "../../src/TokenStorage/Postgres.js"
import * as Prng from "../simulation/Prng.js"
import type { CalClients, Functions, Options as CalOptions } from "./cal.js"
import * as Child from "./Child.js"
import * as Figures from "./Figures.js"
import * as Import from "./Import.js"
import { cpu, now } from "./Instant.js"
import * as Ipc from "./Ipc.js"
import { judge } from "./Judge.js"
import * as Population from "./Population.js"
import * as Result from "./Result.js"
import * as Service from "./Service.js"
import * as Traffic from "./Traffic.js"
import type { Death, Deed, Kind } from "./Truth.js"
import { waits } from "./Waits.js"

export interface Options {
  readonly settings: Result.Settings
  /** Further settings of the service. */
  readonly env: Readonly<Record<string, string>>
  /** Bundled: the service, its probe, and Cal.com. */
  readonly programs: { readonly service: string; readonly probe: string; readonly cal: string }
  readonly database: Effect.Effect<Redacted.Redacted, never, Scope.Scope>
  readonly progress: (progress: Progress) => void
  /** Done in the place of withdrawals, of which the judge is told, without a word to it: for tests of the judge. */
  readonly behindItsBack?: (world: World) => Effect.Effect<void>
}

/** Cal.com, as its process lets others play with it. */
export type Cal = ReturnType<typeof Ipc.caller<Functions>>

export interface World {
  readonly users: ReadonlyArray<Traffic.User>
  readonly cal: Cal
  readonly sql: PgClient.PgClient
}

export type Progress =
  | { readonly what: "step"; readonly text: string }
  | { readonly what: "second"; readonly second: number; readonly requests: number; readonly granted: number }

const secret = () => randomBytes(24).toString("base64url")
const origin = "http://page.example"

export const run = ({ behindItsBack, progress, settings, ...options }: Options) =>
  Effect.gen(function* () {
    const { processes, seconds, seed } = settings
    const say = (text: string) => Effect.sync(() => progress({ what: "step", text }))

    yield* say("starting PostgreSQL and Cal.com")
    const clients = {
      managed: { clientId: `managed-${secret()}`, clientSecret: secret() },
      oauth2: { clientId: `oauth2-${secret()}`, clientSecret: secret() }
    }
    const cal = yield* startCal(settings, clients, options.programs.cal)
    const ports = yield* cal("ports")
    const database = yield* options.database
    const encryptionKeys = Redacted.make(`k1:${randomBytes(32).toString("base64")}`)
    const context = yield* Layer.build(
      Layer.merge(
        Layer.provideMerge(Migrations.layer, Postgres.layerConnection({ url: database, poolSize: 2 })),
        KeyRing.layer(encryptionKeys)
      )
    ).pipe(Effect.orDie)
    const keys = Context.get(context, KeyRing.KeyRing)
    const sql = Context.get(context, PgClient.PgClient)

    yield* say(`starting ${processes} processes`)
    const apiKey = secret().padEnd(40, "-")
    const started: Array<Service.Service> = []
    const start = (slot: number) => {
      const cal = `http://127.0.0.1:${ports[slot]}`
      const env = {
        PORT: "0",
        LOG_FORMAT: "json",
        DATABASE_URL: Redacted.value(database),
        CAL_API_URL: `${cal}/v2`,
        CAL_CLIENT_ID: clients.managed.clientId,
        CAL_CLIENT_SECRET: clients.managed.clientSecret,
        CAL_OAUTH_CLIENT_ID: clients.oauth2.clientId,
        CAL_OAUTH_CLIENT_SECRET: clients.oauth2.clientSecret,
        // Nobody goes there.
        CAL_OAUTH_AUTHORIZE_URL: `${cal}/auth/oauth2/authorize`,
        CAL_TOKENS_ENCRYPTION_KEYS: Redacted.value(encryptionKeys),
        CAL_TOKENS_API_KEYS: `load:${apiKey}:manage+read-token+proxy`,
        CAL_TOKENS_ALLOWED_ORIGINS: origin,
        CAL_TOKENS_TRUSTED_PROXIES: "127.0.0.1",
        ...options.env
      }
      const { probe, service: program } = options.programs
      return Effect.tap(Service.start({ slot, program, probe, env }), (service) => started.push(service))
    }
    const services = yield* Effect.forEach(Array.from({ length: processes }).keys(), start, { concurrency: processes })

    yield* say(`connecting ${settings.users.toLocaleString("en")} users`)
    const [took, population] = yield* Effect.timed(
      Effect.provide(Population.make(settings, { cal, clients, keys }), context)
    )
    const { users } = population
    yield* Effect.orDie(sql`analyze`)
    // Who was connected first became due while the others were.
    yield* say("waiting until nobody's refresh is late")
    yield* Effect.repeat(lateRefreshes(sql), {
      until: (late) => late === 0,
      times: 300,
      schedule: Schedule.spaced("200 millis")
    })

    // -----------------------------------------------------------------------------------------------------------------
    // The traffic
    // -----------------------------------------------------------------------------------------------------------------

    yield* cal("strike", settings.mishaps)
    const before = { ...(yield* cal("counts")), own: cpu() }
    const beganAt = now()
    const endsAt = beganAt + seconds * 1000
    const width = Math.max(1000, (seconds * 1000) / 120)
    const parts = Math.ceil((seconds * 1000) / width)
    const figures = Figures.make(beganAt, width, parts)
    const traffic = yield* Traffic.make({
      ...{ seed, rate: settings.rate, users, services, figures, apiKey, origin },
      renew: ({ calUserId, kind }) => cal("renew", { calUserId, kind })
    })
    for (const [user, accessToken] of population.pages) traffic.openPage(user, accessToken)
    const second = Effect.gen(function* () {
      const { granted } = yield* cal("counts")
      const second = Math.round((now() - beganAt) / 1000)
      progress({ what: "second", second, requests: figures.total(), granted: granted - before.granted })
    })
    yield* Effect.forkScoped(
      Effect.repeat(second, { while: () => now() < endsAt, schedule: Schedule.fixed("1 second") })
    )

    // -----------------------------------------------------------------------------------------------------------------
    // What happens meanwhile
    // -----------------------------------------------------------------------------------------------------------------

    const events: Array<{ readonly at: number; readonly what: string }> = []
    const deeds: Array<Deed> = [...population.deeds]
    const deaths: Array<Death> = []
    const happens = (what: string) =>
      Effect.zipRight(
        Effect.sync(() => events.push({ at: (now() - beganAt) / 1000, what })),
        say(what)
      )
    const reaching = (share: number) =>
      Effect.suspend(() => Effect.sleep(Math.max(0, beganAt + share * seconds * 1000 - now())))
    const another = (slot: number) =>
      Effect.gen(function* () {
        services[slot] = yield* start(slot)
        yield* happens(`process ${slot + 1} is there again`)
      })
    const badExits: Array<string> = []
    const ended = (service: Service.Service) =>
      Effect.map(service.end("SIGTERM"), ({ code, signal }) => {
        if (code !== 0) badExits.push(`process ${service.slot + 1}: ${code ?? signal}\n${service.tail()}`)
      })
    /** One dies without notice and one is replaced as by a deployment, if there are others. */
    const harm = Effect.gen(function* () {
      const [victim, leaving] = services
      if (victim === undefined || leaving === undefined) return
      yield* reaching(0.35)
      const at = now()
      deaths.push({ slot: victim.slot, at, aliveAt: victim.samples.at(-1)?.at ?? at })
      yield* Effect.zipRight(victim.end("SIGKILL"), happens("process 1 is killed (kill -9)"))
      yield* Effect.zipRight(Effect.sleep("2 seconds"), another(victim.slot))
      yield* reaching(0.65)
      yield* Effect.zipRight(happens("process 2 is told to stop"), ended(leaving))
      yield* another(leaving.slot)
    })
    /** Now and then somebody withdraws their consent at Cal.com, and an account is deleted there. */
    const prng = Prng.make(seed, "withdrawals")
    const withdrawing = Effect.gen(function* () {
      for (const what of ["revoked", "removed"] as const) {
        const kind: Kind = what === "removed" || prng.chance(0.5) ? "managed" : "oauth2"
        const user = users.find((user) => {
          return user.kind === kind && user.trouble === undefined && !user.isReturning && prng.chance(0.05)
        })
        if (user === undefined) continue
        const { calUserId } = user
        const at = yield* what === "revoked" ? cal("revoke", calUserId) : cal("remove", calUserId)
        deeds.push({ calUserId, at, what })
      }
    })
    yield* Effect.forkScoped(
      behindItsBack === undefined
        ? Effect.repeat(withdrawing, Schedule.spaced(Math.min(10_000, seconds * 200)))
        : behindItsBack({ users, cal, sql })
    )

    const lateness = monitorEventLoopDelay({ resolution: 10 })
    lateness.enable()
    yield* Effect.all([traffic.until(endsAt), harm], { concurrency: "unbounded" })
    lateness.disable()
    const after = { ...(yield* cal("counts")), own: cpu(), at: now() }

    // -----------------------------------------------------------------------------------------------------------------
    // The end
    // -----------------------------------------------------------------------------------------------------------------

    yield* say("the fleet ends")
    yield* cal("strike", 0)
    yield* Effect.forEach(services, ended, { concurrency: "unbounded", discard: true })

    yield* say("judging")
    const truth = yield* cal("truth")
    const held = yield* Effect.provide(
      Import.held(
        keys,
        users.map(({ userUlid }) => userUlid)
      ),
      context
    )
    const marks = yield* Effect.orDie(sql<{ user: UserUlid; at: number }>`
      select user_ulid as user, at::float8 as at from cal_tokens.change where kind = 'reauthorizationRequired'`)
    const idOf = new Map(users.map(({ calUserId, userUlid }) => [userUlid, calUserId]))
    const verdict = judge({
      truth,
      deaths,
      deeds: [...deeds, ...traffic.deeds],
      users: new Map(
        users.map(({ calUserId, kind, userUlid }) => [calUserId, { kind, held: held.get(userUlid) ?? new Set() }])
      ),
      reconnects: [...traffic.reconnects, ...marks.map(({ at, user }) => ({ calUserId: idOf.get(user) ?? 0, at }))]
    })
    return Result.make({
      ...{ settings, beganAt, width, parts, figures, events, verdict, badExits },
      setUpSeconds: Duration.toSeconds(took),
      truth,
      waits: waits(traffic.ensures, truth, settings),
      services: started,
      lateness: Result.late(lateness),
      others: {
        cal: (after.cpu - before.cpu) / (after.at - beganAt),
        own: (after.own - before.own) / (after.at - beganAt)
      }
    })
  })

const activeFor = Duration.toMillis("1 hour")

/** How many users in use are to be refreshed since a second ago, and are not being refreshed. */
const lateRefreshes = (sql: PgClient.PgClient) =>
  Effect.map(
    Effect.orDie(sql<{ late: number }>`
      select count(*)::int as late from cal_tokens.due d join cal_tokens.connection c using (user_ulid)
      where d.visit_at < ${Math.floor(now()) - 1000} and d.used_at > ${Math.floor(now()) - activeFor} and c.attempt_id is null`),
    ([row]) => row?.late ?? 0
  )

const startCal = (settings: Result.Settings, clients: CalClients, program: string) =>
  Effect.gen(function* () {
    const { inUse, late, latency, lifetime, processes, seed, users } = settings
    const options: CalOptions = {
      ...{ clients, seed, latency, late },
      slots: processes,
      lifetime: lifetime * 1000,
      // Far more than it takes to keep everybody fresh, as somebody with so many users has agreed upon.
      perMinute: Math.max(500, Math.ceil((4 * 60 * users * inUse) / lifetime))
    }
    const child = yield* Child.make(program, { arguments: [JSON.stringify(options)], env: {} })
    return Ipc.caller<Functions>(child)
  })
