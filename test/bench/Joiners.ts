/** Ten thousand callers of one expired token, whose new one is 50 ms away. */
import { Effect, Layer, Logger, ManagedRuntime, Redacted } from "effect"
import * as Actions from "../../src/Actions.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalClient from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import { layerApiHttp, layerTokenHttp } from "../../src/CalHttp/Node.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"
import * as Floors from "./Floors.js"
import { type Row, ratio } from "./Row.js"
import * as TokenServer from "./TokenServer.js"

const callers = 10_000
const user = UserUlid.make("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const oauth2 = { clientId: "client", clientSecret: Redacted.make("secret") }

const together = <A>(ask: () => Promise<A>) => Promise.all(Array.from({ length: callers }, ask))

const row: Row = {
  name: "joiners",
  figure: "× @badgateway/oauth2-client",
  target: 1.5,
  measure: async () => {
    const server = await TokenServer.start(50)
    const runtime = ManagedRuntime.make(
      CalApi.layer.pipe(
        Layer.provideMerge(CalTokens.layer),
        Layer.provide(CalClient.layer({ apiUrl: server.url, oauth2 })),
        Layer.provide([
          layerApiHttp,
          layerTokenHttp,
          layerMemory,
          // Round follows round: an expired token is never held.
          TokenConfig.layer({ maxAttempts: 1e9 }),
          Logger.remove(Logger.defaultLogger),
          Layer.setTracerEnabled(false)
        ])
      )
    )
    const product = await runtime.runPromise(CalTokens.CalTokens)
    const cal = Actions.make({
      layer: Layer.effectContext(Effect.map(runtime.runtimeEffect, ({ context }) => context))
    })
    let theirs: () => Promise<unknown> = () => Promise.resolve()
    let n = 0
    const expire = async () => {
      const old = { accessToken: `old-${++n}`, refreshToken: `old-refresh-${n}` }
      const expiresAt = (await runtime.runPromise(Effect.clockWith((clock) => clock.currentTimeMillis))) - 1000
      const pair = { ...old, accessTokenExpiresAt: expiresAt }
      await runtime.runPromise(product.connect(user, { _tag: "OAuth2" }, pair))
      const ask = Floors.badgateway(new Map([[user, { ...old, expiresAt }]]), `${server.url}/token`)
      theirs = () => ask(user)
    }
    const once = async (ask: () => Promise<unknown>) => {
      const before = server.count()
      await ask()
      if (server.count() !== before + 1) throw new Error(`${server.count() - before} refreshes`)
    }
    const figure = await ratio(
      9,
      () => once(() => together(() => cal.ensureValidCalToken(user))),
      () => once(() => together(theirs)),
      expire
    )
    await cal.dispose()
    await runtime.dispose()
    await server.close()
    return figure
  }
}

export const rows: ReadonlyArray<Row> = [row]
