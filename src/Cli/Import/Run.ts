/** An import from a source to a target, batch by batch: what is stored is noted before the next one is. */
import { Chunk, Effect, Stream } from "effect"
import type { ImportedRow } from "../../CalTokens.js"
import type { StartError } from "../../Environment.js"
import type { UserUlid } from "../../Token.js"
import { maxImports } from "../../TokenStorage.js"
import * as Progress from "../Progress.js"
import * as Counts from "./Counts.js"
import { judge, type Judged, type Kind, type Rejected } from "./Judging.js"
import type * as Keeping from "./Keeping.js"
import type { Position, Raw, Source } from "./Source.js"
import type { Target } from "./Target.js"

/** So many batches are written at once: one is sealed here while the other is stored there. */
const inFlight = 2

export interface Options extends Kind {
  readonly source: Source
  readonly target: Target
  readonly keeping: Keeping.Keeping
  readonly begin: Keeping.State
  readonly out: Progress.Out
  /** Cal.com's time in ms. */
  readonly now: Effect.Effect<number>
  readonly onStored: (users: ReadonlyArray<UserUlid>) => Effect.Effect<void>
  readonly onRejected: (rows: ReadonlyArray<Rejected>) => Effect.Effect<void>
  /** Told after each batch, and so before whatever ends the run. */
  readonly onState: (state: Keeping.State) => Effect.Effect<void>
}

interface Batch {
  readonly judged: ReadonlyArray<Judged>
  readonly position: Position
  readonly done: number
}

interface Written extends Batch {
  readonly good: ReadonlyArray<Extract<Judged, { readonly _tag: "Connection" }>>
  /** Of the good ones, in their order. */
  readonly results: ReadonlyArray<ImportedRow>
}

/** How far it came at its end. */
export const run = (options: Options): Effect.Effect<Keeping.State, StartError> =>
  Effect.gen(function* () {
    const { begin, keeping, source, target } = options
    const total = yield* source.total
    const progress = yield* Progress.make(options.out, "rows", total === undefined ? undefined : total - begin.done)
    let state = begin

    const judgeAll = (rows: ReadonlyArray<Raw>): Effect.Effect<Batch> =>
      Effect.gen(function* () {
        const now = yield* options.now
        const judged = yield* Effect.forEach(rows, (raw) => judge(raw, options, now))
        const last = rows.at(-1)
        return {
          judged,
          position: { place: last?.place ?? 0, user: lastUser(rows) },
          done: last?.done ?? 0
        }
      })

    const write = (batch: Batch): Effect.Effect<Written, StartError> => {
      const good = batch.judged.flatMap((each) => (each._tag === "Connection" ? [each] : []))
      return good.length === 0
        ? Effect.succeed({ ...batch, good, results: [] })
        : Effect.map(target.write(good.map(({ row }) => row)), (results) => ({ ...batch, good, results }))
    }

    const note = ({ done, good, judged, position, results }: Written) =>
      Effect.gen(function* () {
        const refused = good.flatMap(({ place, user }, index): ReadonlyArray<Rejected> => {
          const result = results[index]
          return result?.outcome === "rejected" ? [{ place, user, reason: result.reason }] : []
        })
        const rejected = [
          ...judged.flatMap((each) => (each._tag === "Rejected" ? [each.rejected] : [])),
          ...refused
        ].sort((one, other) => one.place - other.place)
        yield* keeping.reject(rejected)
        yield* options.onRejected(rejected)
        yield* options.onStored(results.flatMap(storedUser))
        const before = state
        state = {
          position: { place: position.place, user: position.user ?? state.position.user },
          done,
          counts: Counts.add(state.counts, [
            ...judged.flatMap((each) => (each._tag === "None" ? (["none"] as const) : [])),
            ...rejected.map(() => "rejected" as const),
            ...results.flatMap(({ outcome }) => (outcome === "rejected" ? [] : [outcome]))
          ])
        }
        yield* keeping.save(state)
        yield* options.onState(state)
        yield* progress.advance(Counts.sum(state.counts) - Counts.sum(before.counts), done - before.done)
      })

    yield* source.rows(begin.position).pipe(
      Stream.grouped(maxImports),
      Stream.mapEffect((rows) => judgeAll(Chunk.toReadonlyArray(rows))),
      // The next ones are read while these are stored.
      Stream.buffer({ capacity: inFlight }),
      // In any order: of two pairs of one user the older one is left aside.
      Stream.mapEffect(write, { concurrency: inFlight }),
      Stream.runForEach(note),
      Effect.ensuring(progress.end)
    )
    yield* keeping.finish
    return state
  })

const lastUser = (rows: ReadonlyArray<Raw>): string | undefined => {
  const named = rows.findLast((raw) => raw._tag === "Row" && typeof raw.fields.user === "string")
  return named?._tag === "Row" ? String(named.fields.user) : undefined
}

const storedUser = (result: ImportedRow): ReadonlyArray<UserUlid> =>
  result.outcome === "rejected" || result.outcome === "refreshedHere" ? [] : [result.userUlid]
