/** While both run: who has moved, and how users are taken over, a few at a time. */
import type { Actions, CalConnectionToImport } from "cal-tokens/actions"
import type { Pool } from "pg"
import type { Row } from "./before.js"

export const column = `alter table "UserCalTokens" add column "movedAt" timestamptz`

/** Looked up each time: a process that remembers it refreshes users who have moved. */
export const makeMoved = (pool: Pool, cal: Actions) => async (userUlid: string) => {
  const { rowCount } = await pool.query(`select from "UserCalTokens" where "userUlid" = $1 and "movedAt" is not null`, [
    userUlid
  ])
  return rowCount === 1 ? cal : undefined
}

const toImport = (row: Row): CalConnectionToImport => ({
  userUlid: row.userUlid,
  account: row.calManagedUserId === null ? { kind: "oauth2" } : { kind: "managed", calUserId: row.calManagedUserId },
  tokens: {
    accessToken: row.calAccessToken,
    refreshToken: row.calRefreshToken,
    accessTokenExpiresAt: row.calAccessTokenExpiresAt.getTime()
  }
})

/** `cal` acts for everybody: make it without `authorize`, and let no browser near it. */
export const makeMoving = (pool: Pool, cal: Actions) => {
  const importRows = async (rows: ReadonlyArray<Row>) => {
    const answer = await cal.importCalConnections(rows.map(toImport))
    if (!answer.success) throw new Error(answer.error)
    return answer.results
  }

  /** Moves up to 500 users, and answers how many. Who is not ready is left for another time. */
  const move = async (users: ReadonlyArray<string>): Promise<number> => {
    // Whose token is good for ten minutes more is being refreshed by nobody.
    const { rows } = await pool.query<Row>(
      `select * from "UserCalTokens" where "userUlid" = any ($1) and "movedAt" is null
       and "calAccessTokenExpiresAt" > $2`,
      [users, new Date(new Date().getTime() + 10 * 60_000)]
    )
    const results = await importRows(rows)
    for (const result of results) if (result.outcome === "rejected") console.warn(result.userUlid, result.reason)
    const taken = rows.filter((_, place) => results[place]?.outcome !== "rejected")
    // From here on the old code leaves them alone; not those who got another pair since.
    const { rows: moved } = await pool.query<Row>(
      `update "UserCalTokens" o set "movedAt" = now() from unnest($1::text[], $2::text[]) as n ("user", "token")
       where o."userUlid" = n."user" and o."calRefreshToken" = n."token" returning o.*`,
      [taken.map(({ userUlid }) => userUlid), taken.map(({ calRefreshToken }) => calRefreshToken)]
    )
    return moved.length
  }

  /** Up to 500 of those who are left, whenever their tokens expire: no old code runs any more. Answers whom it refused. */
  const moveRest = async () => {
    const { rows } = await pool.query<Row>(`select * from "UserCalTokens" where "movedAt" is null limit 500`)
    const results = await importRows(rows)
    await pool.query(`update "UserCalTokens" set "movedAt" = now() where "userUlid" = any ($1)`, [
      rows.map(({ userUlid }) => userUlid)
    ])
    return { isMore: rows.length > 0, refused: results.filter(({ outcome }) => outcome === "rejected") }
  }

  /** Once more, for a refresh that was under way when its user moved. */
  const again = async (users: ReadonlyArray<string>) => {
    const { rows } = await pool.query<Row>(
      `select * from "UserCalTokens" where "userUlid" = any ($1) and "movedAt" is not null`,
      [users]
    )
    return importRows(rows)
  }

  /** Gives a user back, if the old row still has the pair that is in force; answers whether it has. */
  const moveBack = async (userUlid: string): Promise<boolean> => {
    const [result] = await again([userUlid])
    if (result?.outcome !== "unchanged") return false
    await cal.disconnectCalUser(userUlid)
    await pool.query(`update "UserCalTokens" set "movedAt" = null where "userUlid" = $1`, [userUlid])
    return true
  }

  return { move, moveRest, again, moveBack }
}
