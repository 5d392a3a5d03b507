/** A hundred thousand users of another system's table, imported by the program on the same machine as its PostgreSQL. */
import { availableParallelism, loadavg } from "node:os"
import * as Fs from "node:fs"
import { Effect, Redacted } from "effect"
import { Client } from "pg"
import { afterAll, assert, beforeAll, it } from "vitest"
import { build, run } from "../start/Program.js"
import { makeDatabase } from "../support/Postgres.js"

const users = 100_000

/** In seconds. Two processors with nothing else to do take a good half minute. */
const bound = 120

let directory: string
beforeAll(() => {
  directory = build()
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

/** As long as Cal.com's, of that form, and no token. */
const token = (type: string, length: number) => `
  'eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.' ||
  translate(encode(convert_to(json_build_object('type', '${type}', 'userId', n, 'ownerId', n, 'iat',
    floor(extract(epoch from now())), 'jti', repeat(md5(n::text), 8))::text, 'utf8'), 'base64'), E'+/=\\n', '-_') ||
  '.' || repeat(md5('${type}' || n), ${Math.ceil(length / 32)})`

/** The original's, beside an index on its key. */
const fill = async (url: string) => {
  const client = new Client({ connectionString: url })
  await client.connect()
  await client.query(`
    create table "users" ("userUlid" text primary key, "calManagedUserId" integer, "calAccessToken" text,
      "calRefreshToken" text, "calAccessTokenExpiresAt" timestamptz);
    insert into "users" select '01' || lpad(n::text, 24, '0'), n, ${token("access_token", 43)},
      ${token("refresh_token", 130)}, now() + interval '1 hour' from generate_series(1, ${users}) n;
    analyze "users"`)
  await client.end()
}

it("a hundred thousand users are imported in a minute, and looked at again in less", () =>
  makeDatabase.pipe(
    Effect.map(Redacted.value),
    Effect.flatMap((url) =>
      Effect.promise(async () => {
        await fill(url)
        const env = {
          DATABASE_URL: url,
          CAL_CLIENT_ID: "client",
          CAL_CLIENT_SECRET: "secret",
          CAL_TOKENS_ENCRYPTION_KEYS: `k1:${Buffer.from("an encryption key of 32 bytes x.").toString("base64")}`
        }
        const take = async (outcome: string) => {
          const began = performance.now()
          const program = run(
            directory,
            ["dist/program.mjs", "import", "--from-postgres", url, "--table", "users"],
            env
          )
          assert.strictEqual(await program.exit, 0, program.stderr())
          const seconds = (performance.now() - began) / 1000
          assert.match(program.stdout(), new RegExp(`^ {2}${outcome} +100,000$`, "m"))
          const load = loadavg()[0]?.toFixed(1) ?? "?"
          console.log(
            `${outcome}: ${users} users in ${seconds.toFixed(1)} s, from start to end; ${availableParallelism()} processors, load ${load}`
          )
          return seconds
        }
        assert.isBelow(await take("imported"), bound)
        assert.isBelow(await take("unchanged"), bound)
      })
    ),
    Effect.scoped,
    Effect.runPromise
  ))
