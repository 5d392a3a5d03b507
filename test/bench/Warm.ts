/** A fresh token, asked for by a program and by a promise backend that has 100,000 users. */
import { Duration, Effect, Layer, Logger, ManagedRuntime, Redacted } from "effect"
import * as Actions from "../../src/Actions.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as Sandbox from "../../src/Sandbox.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as Floors from "./Floors.js"
import { type Row, ratio } from "./Row.js"

const users = Array.from({ length: 100_000 }, (_, n) =>
  UserUlid.make(`01ARZ3NDEKTSV4RRFF${String(n).padStart(8, "0")}`)
)

/** Not one behind the other: what the processor has just read would be nobody's next question. */
const order = users.map((_, n) => users[(n * 7919) % users.length] ?? users[0]!)

/** As long as Cal.com's. */
const tokenOf = (n: number) => ({
  accessToken: `access-${n}`.padEnd(330, "a"),
  refreshToken: `refresh-${n}`.padEnd(420, "r"),
  expiresAt: Date.UTC(2200, 0)
})

const tokens = () => new Map(users.map((user, n) => [user as string, tokenOf(n)]))

const rounds = 7

const hour = Duration.toMillis("1 hour")

/** The product over memory, in which a row stays recent: what is measured is the look, not the storage. */
const layer = CalApi.layer.pipe(
  Layer.provideMerge(CalTokens.layer),
  Layer.provide(CalClient.layer({ apiUrl: "https://api.cal.com/v2", managed: Sandbox.demoManaged })),
  Layer.provide(Sandbox.layerHttpClient),
  Layer.provide(Sandbox.layer()),
  Layer.provide([
    layerMemory,
    TokenConfig.layer({ memoryMaxAge: Duration.hours(1) }),
    Logger.remove(Logger.defaultLogger),
    Layer.setTracerEnabled(false)
  ])
)

const connectAll = Effect.gen(function* () {
  const tokens = yield* CalTokens.CalTokens
  const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  yield* Effect.forEach(
    users,
    (user, n) => {
      const { accessToken, refreshToken } = tokenOf(n)
      return tokens.connect(
        user,
        { _tag: "ManagedUser", calUserId: n + 1 },
        {
          accessToken: Redacted.make(accessToken),
          refreshToken: Redacted.make(refreshToken),
          accessTokenExpiresAt: now + hour
        }
      )
    },
    { discard: true }
  )
})

/** Of all rows: to connect so many takes longer than to measure. */
let world: Promise<{ readonly product: CalTokens.CalTokens["Type"]; readonly runtime: Runtime }> | undefined
type Runtime = ManagedRuntime.ManagedRuntime<Layer.Layer.Success<typeof layer>, Layer.Layer.Error<typeof layer>>

const connected = () =>
  (world ??= (async () => {
    const runtime = ManagedRuntime.make(layer)
    await runtime.runPromise(connectAll)
    return { product: await runtime.runPromise(CalTokens.CalTokens), runtime }
  })())

/** Each user once, in a program. */
const each = (ask: (user: UserUlid) => Effect.Effect<unknown, unknown>) =>
  Effect.gen(function* () {
    for (const user of order) yield* ask(user)
  })

const inProgram: Row = {
  name: "warm",
  figure: "× a look written by hand in Effect",
  target: 1.2,
  measure: async () => {
    const { product, runtime } = await connected()
    const written = Floors.written(tokens())
    const untraced = (work: Effect.Effect<unknown, unknown>) => () =>
      runtime.runPromise(Effect.withTracerEnabled(work, false))
    return ratio(rounds, untraced(each((user) => product.ensureValid(user))), untraced(each(written)))
  }
}

const eachPromise = (ask: (user: UserUlid) => Promise<unknown>) => async () => {
  for (const user of order) await ask(user)
}

const against = (name: string, peer: string, target: number, floor: typeof Floors.google): Row => ({
  name,
  figure: `× ${peer}`,
  target,
  measure: async () => {
    const { runtime } = await connected()
    const cal = Actions.make({ layer: Layer.effectContext(runtime.runtimeEffect.pipe(Effect.map((it) => it.context))) })
    await cal.ensureValidCalToken(users[0]!)
    const theirs = floor(tokens())
    const figure = await ratio(
      rounds,
      eachPromise((user) => cal.ensureValidCalToken(user)),
      eachPromise(theirs)
    )
    await cal.dispose()
    return figure
  }
})

export const rows: ReadonlyArray<Row> = [
  inProgram,
  against("warm-google", "google-auth-library", 1.5, Floors.google),
  against("warm-badgateway", "@badgateway/oauth2-client", 1, Floors.badgateway)
]
