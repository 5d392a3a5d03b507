/**
 * The log of changes on PostgreSQL. Each entry knows the transaction that wrote it. A reader remembers the snapshot that
 * it read with, and is shown what that snapshot did not show: entries of transactions that were under way are neither
 * waited for nor missed, however long they take.
 */
import { Effect, Option } from "effect"
import type { UserUlid } from "../../Token.js"
import type { ReauthorizationCause } from "../../TokenError.js"
import * as ChangeLog from "../ChangeLog.js"
import { millis } from "../Rows.js"
import type { Call } from "./Call.js"
import { instant } from "./Sealing.js"

interface Present {
  readonly snapshot: string
  readonly xmin: string
  readonly now: number
}

interface ChangeColumns extends Present {
  readonly is_known: boolean
  /** Null when there is no change to tell of. */
  readonly id: string | null
  readonly xid: string
  readonly at: number
  readonly user_ulid: UserUlid
  readonly kind: ChangeLog.ChangeKind
  readonly version: number | null
  readonly cause: ReauthorizationCause | null
  readonly since: number | null
  readonly reauthorized: boolean
}

interface TransitionColumns {
  readonly id: string
  readonly kind: ChangeLog.Transition["kind"]
  readonly user_ulid: UserUlid
  readonly at: number
  readonly cause: ReauthorizationCause
  readonly since: number
  readonly imported_at: number | null
  readonly attempts: number
}

export const make = (call: Call): ChangeLog.ChangeLog => {
  const end = call<Present>("changes", "changes_end_1")
  const read = call<ChangeColumns>("changes", "changes_read_1")
  const claim = call<TransitionColumns>("transitions", "transitions_claim_1")
  const settle = call("transitions", "transition_settle_1")
  const postpone = call("transitions", "transition_postpone_1")
  return {
    end: Effect.map(end([], "now"), ([present]) => (present === undefined ? { position: "0-0-0" } : after(present))),

    read: (cursor, limit) =>
      Option.match(ChangeLog.parsePosition(cursor.position), {
        onNone: () => Effect.succeedNone,
        onSome: ({ at, epoch, id }) =>
          Effect.map(read([at, epoch, id, cursor.seen ?? null, cursor.until?.snapshot ?? null, limit], "now"), (rows) =>
            pageOf(rows, cursor, limit)
          )
      }),

    claim: ({ holder, lease, limit }) =>
      Effect.map(claim([holder, millis(lease), limit], "now"), (rows) =>
        rows.map(({ at, attempts: attempt, imported_at, since, user_ulid: userUlid, ...row }) => ({
          ...row,
          userUlid,
          at: instant(at),
          since: instant(since),
          ...(imported_at === null ? {} : { importedAt: instant(imported_at) }),
          attempt
        }))
      ),

    settle: (id) => Effect.asVoid(settle([id])),

    postpone: ({ delay, holder, id }) => Effect.asVoid(postpone([id, holder, millis(delay)], "now"))
  }
}

const pageOf = (rows: ReadonlyArray<ChangeColumns>, cursor: ChangeLog.Cursor, limit: number) => {
  const [first] = rows
  if (first === undefined || !first.is_known) return Option.none()
  const until = cursor.until ?? { snapshot: first.snapshot, at: first.now }
  const found = rows.filter(({ id }) => id !== null)
  const changes = found.map(toChange)
  const last = found.at(-1)
  if (last === undefined || found.length < limit) {
    const next = after({ snapshot: until.snapshot, xmin: first.xmin, now: until.at })
    return Option.some<ChangeLog.Page>({ changes, next, position: next.position })
  }
  // More of what the same snapshot shows, from the last one on.
  return Option.some<ChangeLog.Page>({
    changes,
    next: { position: exactly(last), seen: cursor.seen, until },
    position: changes.at(-1)?.position ?? cursor.position
  })
}

/** Behind all that a snapshot shows. Who comes back without the snapshot begins at the oldest writer it knew of. */
const after = ({ now, snapshot, xmin }: Present): ChangeLog.Cursor => ({
  position: ChangeLog.formatPosition({ at: now, epoch: xmin, id: "0" }),
  seen: snapshot
})

const exactly = ({ at, id, xid }: ChangeColumns) => ChangeLog.formatPosition({ at, epoch: xid, id: id ?? "0" })

const toChange = (row: ChangeColumns): ChangeLog.LoggedChange => ({
  userUlid: row.user_ulid,
  kind: row.kind,
  at: instant(row.at),
  version: row.version ?? undefined,
  cause: row.cause ?? undefined,
  since: row.since === null ? undefined : instant(row.since),
  reauthorized: row.reauthorized,
  // Before the oldest writer, order is final. Among writers, only where that one stands is certain.
  position:
    BigInt(row.xid) < BigInt(row.xmin)
      ? exactly(row)
      : ChangeLog.formatPosition({ at: row.at, epoch: row.xmin, id: "0" })
})
