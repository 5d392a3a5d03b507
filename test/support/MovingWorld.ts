/**
 * The app of `test/examples/moving` on a PostgreSQL of its own, at a simulated Cal.com: its code as it was, what is added to that
 * while users move, and what it has afterwards.
 */
import { randomBytes } from "node:crypto"
import { Effect, Exit, Layer, Logger, LogLevel, Redacted, Scope } from "effect"
import pg from "pg"
import * as Actions from "cal-tokens/actions"
import * as Node from "cal-tokens/node"
import { defaultSwitches, type PlainGrant, startSandbox } from "cal-tokens/sandbox"
import * as TokenConfig from "../../src/TokenConfig.js"
import { makeAfter } from "../examples/moving/after.js"
import { makeBefore, type Row, table } from "../examples/moving/before.js"
import { column, makeMoved, makeMoving } from "../examples/moving/during.js"
import { makeDatabase } from "./Postgres.js"

/** Who asks says so in a header: that is all there is of a session here. */
const signedIn = (request: Request) => request.headers.get("user") ?? ""

export const makeWorld = async (config: Partial<TokenConfig.Options> = {}) => {
  const scope = Effect.runSync(Scope.make())
  const inScope = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Effect.runPromise(Scope.extend(effect, scope))
  const { rateLimits } = defaultSwitches
  const cal = await startSandbox({ switches: { rateLimits: { ...rateLimits, enabled: false } } })
  const url = await inScope(makeDatabase)
  const pool = new pg.Pool({ connectionString: Redacted.value(url), max: 10 })
  // The end of a pool does not wait for the ends of its connections, and the database goes away right after.
  pool.on("error", () => undefined)
  await pool.query(table)
  await pool.query(column)
  const { clientId, clientSecret, oauth2 } = cal
  const layer = Node.layer({
    database: { url },
    encryptionKeys: Redacted.make(`k1:${randomBytes(32).toString("base64")}`),
    cal: {
      apiUrl: `${cal.url}/v2`,
      managed: { clientId, clientSecret: Redacted.make(clientSecret) },
      oauth2: { clientId: oauth2.clientId, clientSecret: Redacted.make(oauth2.clientSecret ?? "") }
    },
    refreshAhead: false
  }).pipe(Layer.provide(TokenConfig.layer(config)))
  const quiet = Logger.minimumLogLevel(LogLevel.None)
  const context = Layer.merge(Layer.succeedContext(await inScope(Layer.build(Layer.provide(layer, quiet)))), quiet)

  const revalidated: Array<string> = []
  const settings = { signedIn, revalidatePath: (path: string) => void revalidated.push(path) }
  const after = makeAfter({ ...settings, layer: context })
  const old = { ...settings, pool, apiUrl: `${cal.url}/v2`, clientId, clientSecret, oauth2 }
  const script = Actions.make({ layer: context })

  return {
    cal,
    pool,
    revalidated,
    /** As it was, and as it goes on in a place that somebody forgot. */
    before: makeBefore(old),
    /** With the lines that are added before the first user moves. */
    during: makeBefore({ ...old, moved: makeMoved(pool, after) }),
    /** The same in another process, which shares the table and nothing else. */
    duringElsewhere: makeBefore({ ...old, moved: makeMoved(pool, after) }),
    after,
    ...makeMoving(pool, script),
    /** Somebody who has the app's calendar. */
    add: async (userUlid: string, grant: PlainGrant) => {
      const managed = grant.kind === "managed" ? grant.calUserId : null
      await pool.query(`insert into "UserCalTokens" values ($1, $2, $3, $4, $5)`, [
        userUlid,
        managed,
        grant.accessToken,
        grant.refreshToken,
        new Date(grant.accessTokenExpiresAt)
      ])
    },
    movedUsers: async () => {
      const { rows } = await pool.query<Row>(`select * from "UserCalTokens" where "movedAt" is not null`)
      return rows.map(({ userUlid }) => userUlid)
    },
    end: async () => {
      await script.dispose()
      await after.dispose()
      await pool.end()
      await cal.close()
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}
