/** What a refresh and a cold read cannot do without: the call, the row. Nothing of ours is in here. */
import * as Undici from "@effect/platform-node/Undici"
import Pg from "pg"

/** So many of these at a time, for each of the inputs. */
export const each = async <A>(inputs: ReadonlyArray<A>, atATime: number, work: (input: A) => Promise<unknown>) => {
  const left = inputs.values()
  const worker = async () => {
    for (const input of left) await work(input)
  }
  await Promise.all(Array.from({ length: atATime }, worker))
}

/** The answer of a token endpoint to a refresh token, each over a connection of its own. */
export const caller = (url: string) => {
  const dispatcher = new Undici.Agent({ pipelining: 0 })
  return {
    refresh: async (refreshToken: string): Promise<unknown> => {
      const { body } = await Undici.request(`${url}/v2/auth/oauth2/token`, {
        dispatcher,
        method: "POST",
        headers: { "content-type": "application/json", "user-agent": "bare" },
        body: JSON.stringify({
          client_id: "client",
          client_secret: "secret",
          grant_type: "refresh_token",
          refresh_token: refreshToken
        })
      })
      return body.json()
    },
    close: () => dispatcher.destroy()
  }
}

/** A user's row by its key. */
export const reader = (url: string) => {
  const pool = new Pg.Pool({ connectionString: url, max: 10 })
  return {
    read: async (user: string): Promise<void> => {
      const { rowCount } = await pool.query("select * from cal_tokens.connection where user_ulid = $1", [user])
      if (rowCount !== 1) throw new Error("no row")
    },
    close: () => pool.end()
  }
}
