/** What the rows and the log of changes show of users: who has to reconnect and why, and what holds many of them. */
import { Clock, Duration, Effect } from "effect"
import type { Ask } from "../../Environment/Inspecting.js"
import { likelyCause, type ReauthorizationCause } from "../../TokenError.js"
import { count, type Finding, looking, ok, users, warning, wrong } from "./Finding.js"

export const looks = (ask: Ask): ReadonlyArray<Effect.Effect<ReadonlyArray<Finding>>> => [
  looking("circuits", circuits(ask)),
  looking("sealed answers", sealed(ask)),
  looking("users", toReconnect(ask)),
  looking("a second system", secondSystem(ask))
]

const circuits = (ask: Ask) =>
  Effect.map(
    ask<{ readonly client_id: string; readonly cause: string; readonly reason: string | null }>(
      "select client_id, cause, reason from cal_tokens.client where cause is not null order by client_id limit 20"
    ),
    (open) =>
      open.length === 0
        ? ok("circuits", "No client is held.")
        : open.map(({ cause, client_id, reason }) =>
            wrong("circuits", `Refreshes of client ${client_id} are held: ${reason ?? cause}.`, advice[cause] ?? "")
          )
  )

const advice: Readonly<Record<string, string>> = {
  client: "See what is said of the client below: refreshes go on by themselves within 30 s of that being mended.",
  brake: "Many users were refused at once, which is rarely the users: check the client, its secret and the URL.",
  drift: "Cal.com answers otherwise than it did. Answers are kept: upgrade cal-tokens, which reads them then."
}

const sealed = (ask: Ask) =>
  Effect.gen(function* () {
    const [row] = yield* ask<{ readonly n: number; readonly people: number; readonly at: number | null }>(
      `select count(*)::float8 as n, count(distinct user_ulid)::float8 as people, min(at)::float8 as at
       from cal_tokens.sealed_answer`
    )
    const check = "sealed answers"
    if (row === undefined || row.n === 0 || row.at === null) return ok(check, "None is kept.")
    const age = Duration.format(Duration.hours(Math.ceil(((yield* Clock.currentTimeMillis) - row.at) / 3_600_000)))
    return warning(
      check,
      `${count(row.n, "answer")} of Cal.com that nobody could read, of ${count(row.people, "user")}; the oldest is ${age} old.`,
      "They are kept for 30 days, and read again at each start: upgrade cal-tokens."
    )
  })

const causes: Readonly<Record<string, string>> = {
  revoked: "revoked at Cal.com, or spent elsewhere",
  rotationLost: "the answer with their new tokens was lost",
  calUserGone: "their managed user is gone at Cal.com"
}

const toReconnect = (ask: Ask) =>
  Effect.map(
    ask<{ readonly cause: string | null; readonly n: number }>(
      "select cause, count(*)::float8 as n from cal_tokens.connection where status <> 'active' group by cause order by n desc"
    ),
    (rows) => {
      const sum = rows.reduce((sum, { n }) => sum + n, 0)
      const told = rows.map(({ cause, n }) => `${n} ${cause ?? "?"} (${causes[cause ?? ""] ?? "unknown"})`).join(", ")
      return sum === 0
        ? ok("users", "Nobody has to reconnect.")
        : warning(
            "users",
            `${count(sum, "user has", "users have")} to reconnect: ${told}.`,
            "Ask them to connect again."
          )
    }
  )

/** What rows and log know. Whoever knows more, such as what was sent to Cal.com and when, adds it here. */
export interface Evidence {
  /** Lost so soon after an import that who had them before is likely to be the reason. */
  readonly imported: ReadonlyArray<string>
  /** Within the day of the log. */
  readonly revoked: number
  readonly refreshed: number
}

/** Fewer are nobody's system. */
const several = 5

export const judgeSecondSystem = ({ imported, refreshed, revoked }: Evidence): Finding => {
  const check = "a second system"
  const stop = "Stop the other system's refreshes, then have these users connect again."
  if (imported.length > 0) {
    return wrong(
      check,
      `${count(imported.length, "user was", "users were")} lost within a day of being imported: another system still refreshes them (${users(imported)}).`,
      stop
    )
  }
  return revoked >= several && revoked * 50 > refreshed
    ? warning(
        check,
        `${revoked} users were refused for good within a day, beside ${refreshed} refreshes: too many to have left by themselves.`,
        "Look for another system with their refresh tokens, or for a backup that was restored."
      )
    : ok(check, "Nothing shows one.")
}

const secondSystem = (ask: Ask) =>
  Effect.gen(function* () {
    const lost = yield* ask<{
      readonly user_ulid: string
      readonly cause: ReauthorizationCause
      readonly since: number
      readonly imported_at: number
    }>(
      `select user_ulid, cause, since::float8, imported_at::float8 from cal_tokens.connection
       where status <> 'active' and imported_at is not null order by user_ulid limit 1000`
    )
    const [day] = yield* ask<{ readonly revoked: number; readonly refreshed: number }>(
      `select count(distinct user_ulid) filter (where kind = 'reauthorizationRequired' and cause = 'revoked')::float8 as revoked,
         count(*) filter (where kind in ('refreshed', 'reissued'))::float8 as refreshed from cal_tokens.change`
    )
    const imported = lost.filter(
      ({ cause, imported_at: importedAt, since }) => likelyCause({ cause, since, importedAt }) !== undefined
    )
    return judgeSecondSystem({
      imported: imported.map(({ user_ulid }) => user_ulid),
      revoked: day?.revoked ?? 0,
      refreshed: day?.refreshed ?? 0
    })
  })
