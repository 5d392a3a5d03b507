/**
 * Whatever is sealed, sealed anew under the first key while the service goes on, so that the others can be given up. What is
 * left says so itself, for each sealed text names its key: whoever was stopped begins again and finds what is left, and any
 * number may do so at once. A row is written over as it was read or not at all, and nobody waits who refreshes it: one that
 * changed meanwhile, or is locked, is left for the next round.
 */
import type { SqlClient } from "@effect/sql"
import { Chunk, Context, Duration, Effect, Layer, Option, Schedule, type Scope } from "effect"
import { KeyRing } from "../../KeyRing.js"
import type { UserUlid } from "../../Token.js"
import type { StorageUnavailable } from "../../TokenError.js"
import * as Call from "./Call.js"
import * as Migrations from "./Migrations.js"
import * as Sealing from "./Sealing.js"

/** What is sealed, or has a code that is. */
export const kinds = ["pairs", "fallbacks", "handedOut", "sealedAnswers", "flows"] as const
export type Kind = (typeof kinds)[number]

/** How much is under a key. An empty id: whatever stands where the id of a key should. */
export interface KeyInUse {
  readonly id: string
  readonly counts: Readonly<Record<Kind, number>>
}

export interface Round {
  /** Rows, answers and flows that are under the first key now. */
  readonly moved: number
  /** What somebody changed, or had, meanwhile. */
  readonly left: number
  /** What the keys do not open. */
  readonly unreadable: number
}

/** Seals anew, and tells what is under which key. */
export class Reencryption extends Context.Tag("cal-tokens/Reencryption")<
  Reencryption,
  {
    readonly keysInUse: Effect.Effect<ReadonlyArray<KeyInUse>, StorageUnavailable>
    /** Once through all there is; `onSeen` is told of so many rows of users. */
    readonly round: (onSeen: (rows: number) => Effect.Effect<void>) => Effect.Effect<Round, StorageUnavailable>
  }
>() {}

/** So many rows are looked at by one statement, which locks none of them. */
const page = 1000

/** So many are written by one, and locked until its end. */
const batch = 50

/** To count takes its time, where there are many. */
const statementTimeout = Duration.minutes(2)

interface NextColumns {
  readonly last: string | null
  readonly seen: number
  readonly rows: ReadonlyArray<Sealing.Keyed & { readonly print: string }>
}

interface AnswerColumns {
  readonly user_ulid: UserUlid
  readonly id: string
  readonly client_id: string
  readonly spent_hash: string
  readonly envelope: string
}

interface FlowColumns {
  readonly state_hash: string
  readonly envelope: string
}

const sum = (rounds: Iterable<Round>): Round => {
  const sum = { moved: 0, left: 0, unreadable: 0 }
  for (const { left, moved, unreadable } of rounds) {
    sum.moved += moved
    sum.left += left
    sum.unreadable += unreadable
  }
  return sum
}

/** The database may be away for a moment: whatever was written stays so, and may be written again. */
const patiently = <A>(work: Effect.Effect<A, StorageUnavailable>): Effect.Effect<A, StorageUnavailable> =>
  Effect.retry(work, Schedule.intersect(Schedule.exponential("500 millis"), Schedule.recurs(6)))

const make: Effect.Effect<Reencryption["Type"], never, SqlClient.SqlClient | KeyRing | Scope.Scope> = Effect.gen(
  function* () {
    const keys = yield* KeyRing
    const [first] = keys.ids
    const { call } = yield* Call.make({ statementTimeout })
    const next = call<NextColumns>("reencrypt", "reencrypt_next_1")
    const answersNext = call<AnswerColumns>("reencrypt", "reencrypt_answers_next_1")
    const flowsNext = call<FlowColumns>("reencrypt", "reencrypt_flows_next_1")
    const keysInUse = call<{ readonly what: Kind; readonly key_id: string; readonly rows: number }>(
      "keysInUse",
      "keys_in_use_1"
    )

    /** What was found of a page: what is to be written over it, and what cannot be. */
    interface Anew {
      readonly writes: ReadonlyArray<object>
      readonly unreadable: number
    }

    /** Writes them, batch by batch. */
    const writing = (name: string) => {
      const write = call<Readonly<Record<string, number>>>("reencrypt", name)
      return ({ unreadable, writes }: Anew): Effect.Effect<Round, StorageUnavailable> =>
        Effect.map(
          Effect.forEach(Chunk.chunksOf(Chunk.unsafeFromArray(writes), batch), (some) =>
            Effect.map(patiently(write([JSON.stringify(Chunk.toReadonlyArray(some))])), ([row]): Round => {
              const moved = row?.[name] ?? 0
              return { moved, left: some.length - moved, unreadable: 0 }
            })
          ),
          (rounds) => sum([...rounds, { moved: 0, left: 0, unreadable }])
        )
    }
    const writeRows = writing("reencrypt_rows_1")
    const writeAnswers = writing("reencrypt_answers_1")
    const writeFlows = writing("reencrypt_flows_1")

    const rowsAnew = (rows: NextColumns["rows"]): Effect.Effect<Anew> =>
      Effect.map(
        Effect.forEach(rows, (row) =>
          Effect.map(Sealing.anew(keys, row), (anew) => ({
            ...anew,
            write: { ...anew.next, user_ulid: row.user_ulid, print: row.print }
          }))
        ),
        (all) => ({
          writes: all.flatMap(({ isChanged, write }) => (isChanged ? [write] : [])),
          unreadable: all.filter(({ isUnreadable }) => isUnreadable).length
        })
      )

    /** Of what has an envelope: `anew` answers its key and the new one, unless it does not open. */
    const envelopesAnew = <Row extends { readonly envelope: string }>(
      rows: ReadonlyArray<Row>,
      open: (row: Row) => Effect.Effect<Option.Option<string>>
    ): Effect.Effect<Anew> =>
      Effect.map(
        Effect.forEach(rows, (row) =>
          Effect.map(
            open(row),
            Option.map((envelope) => ({ ...row, old: row.envelope, envelope }))
          )
        ),
        (all) => {
          const writes = all.flatMap(Option.toArray)
          return { writes, unreadable: all.length - writes.length }
        }
      )

    const rows = Effect.fnUntraced(function* (onSeen: (rows: number) => Effect.Effect<void>) {
      const rounds: Array<Round> = []
      for (let after: string | null | undefined = null; after !== undefined;) {
        const [found]: ReadonlyArray<NextColumns> = yield* patiently(next([first, after, page]))
        rounds.push(yield* Effect.flatMap(rowsAnew(found?.rows ?? []), writeRows))
        yield* onSeen(found?.seen ?? 0)
        after = found?.last ?? undefined
      }
      return sum(rounds)
    })

    const answers = Effect.gen(function* () {
      const rounds: Array<Round> = []
      for (let found: ReadonlyArray<AnswerColumns> | undefined; found === undefined || found.length === page;) {
        const last: AnswerColumns | undefined = found?.at(-1)
        found = yield* patiently(answersNext([first, last?.user_ulid ?? null, last?.id ?? null, page]))
        const open = (row: AnswerColumns) => Sealing.answerAnew(keys, row.user_ulid, row)
        rounds.push(yield* Effect.flatMap(envelopesAnew(found, open), writeAnswers))
      }
      return sum(rounds)
    })

    const flows = Effect.gen(function* () {
      const rounds: Array<Round> = []
      for (let found: ReadonlyArray<FlowColumns> | undefined; found === undefined || found.length === page;) {
        found = yield* patiently(flowsNext([first, found?.at(-1)?.state_hash ?? null, page]))
        const open = ({ envelope, state_hash }: FlowColumns) =>
          Effect.flatMap(
            keys.openFlow(state_hash, envelope),
            Option.match({
              onNone: () => Effect.succeedNone,
              onSome: (text) => Effect.asSome(keys.sealFlow(state_hash, text))
            })
          )
        rounds.push(yield* Effect.flatMap(envelopesAnew(found, open), writeFlows))
      }
      return sum(rounds)
    })

    return Reencryption.of({
      keysInUse: Effect.map(keysInUse([]), (rows) => {
        const ids = [...new Set([first, ...rows.map(({ key_id }) => key_id)])]
        return ids.map((id) => ({
          id,
          counts: Object.fromEntries(
            kinds.map((kind) => [kind, rows.find(({ key_id, what }) => key_id === id && what === kind)?.rows ?? 0])
          ) as Record<Kind, number>
        }))
      }),
      round: (onSeen) => Effect.map(Effect.all([rows(onSeen), answers, flows]), sum)
    })
  }
)

/** On the `SqlClient` at hand. The schema is brought up to date first. */
export const layer: Layer.Layer<Reencryption, StorageUnavailable, SqlClient.SqlClient | KeyRing> = Layer.provide(
  Layer.scoped(Reencryption, make),
  Migrations.layer
)
