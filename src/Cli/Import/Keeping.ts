/**
 * What an import leaves on the disk: the rejected rows, for people, and beside them how far it has come, for the next run
 * where it was stopped. Neither holds a token.
 */
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import { Effect, Option, Predicate, Schema } from "effect"
import { StartError } from "../../Environment.js"
import { Counts, zero } from "./Counts.js"
import type { Rejected } from "./Judging.js"
import { codeOf, type Position, type Source, start } from "./Source.js"

/** How far a run has come. */
export interface State {
  readonly position: Position
  readonly done: number
  readonly counts: Counts
}

const Stored = Schema.parseJson(
  Schema.Struct({
    /** Of what is imported from where to where. */
    run: Schema.String,
    place: Schema.Int,
    user: Schema.optional(Schema.String),
    done: Schema.Number,
    counts: Counts,
    /** So long was the file of rejected rows. */
    rejectedBytes: Schema.Int
  })
)

export interface Keeping {
  /** Where an earlier run was stopped; none: at the beginning. */
  readonly stopped: Option.Option<State>
  readonly reject: (rows: ReadonlyArray<Rejected>) => Effect.Effect<void, StartError>
  readonly save: (state: State) => Effect.Effect<void, StartError>
  /** Nothing is left to go on with. */
  readonly finish: Effect.Effect<void, StartError>
}

export const beginning: State = { position: start, done: 0, counts: zero }

/** Keeps nothing. */
export const nothing: Keeping = {
  stopped: Option.none(),
  reject: () => Effect.void,
  save: () => Effect.void,
  finish: Effect.void
}

const doing = <A>(path: string, work: () => A): Effect.Effect<A, StartError> =>
  Effect.try({
    try: work,
    catch: (error) => new StartError({ message: `${path} cannot be written (${codeOf(error)})` })
  })

/**
 * `run`: of what is imported from where to where; a run of the same may go on where the last one was stopped. None: nobody
 * can go on with it, and nothing is kept but what was rejected.
 */
export const make = (
  path: string,
  {
    isAnew,
    run,
    unit
  }: {
    readonly unit: Source["unit"]
    readonly run: ReadonlyArray<unknown> | undefined
    readonly isAnew: boolean
  }
): Effect.Effect<Keeping, StartError> =>
  Effect.gen(function* () {
    const statePath = `${path}.state`
    const identity = createHash("sha256")
      .update(JSON.stringify(run ?? null))
      .digest("hex")
    const stored = isAnew || run === undefined ? Option.none() : yield* readState(statePath)
    const last = Option.filter(stored, (state) => state.run === identity)
    yield* refuseForeign(path)
    let bytes = Option.match(last, { onNone: () => 0, onSome: ({ rejectedBytes }) => rejectedBytes })
    yield* doing(path, () => {
      const length = Fs.existsSync(path) ? Fs.statSync(path).size : 0
      // Without what was written after the last look, which is read again; and nothing of an earlier import.
      if (bytes > 0 && length >= bytes) Fs.truncateSync(path, bytes)
      else {
        Fs.rmSync(path, { force: true })
        bytes = 0
      }
    })

    return {
      stopped: Option.map(last, ({ counts, done, place, user }) => ({ position: { place, user }, done, counts })),
      reject: (rows) =>
        rows.length === 0
          ? Effect.void
          : doing(path, () => {
              const text = rows
                .map(({ place, reason, user }) => `${JSON.stringify({ [unit]: place, user, reason })}\n`)
                .join("")
              Fs.appendFileSync(path, text, { mode: 0o600 })
              bytes += Buffer.byteLength(text)
            }),
      save: ({ counts, done, position: { place, user } }) =>
        run === undefined
          ? Effect.void
          : doing(statePath, () => {
              const state = { run: identity, place, ...(user === undefined ? {} : { user }), done, counts }
              // Whole or not at all, whenever the process is killed.
              Fs.writeFileSync(`${statePath}.new`, Schema.encodeSync(Stored)({ ...state, rejectedBytes: bytes }), {
                mode: 0o600
              })
              Fs.renameSync(`${statePath}.new`, statePath)
            }),
      finish: doing(statePath, () => Fs.rmSync(statePath, { force: true }))
    }
  })

/** One that cannot be read is none: an import that begins anew ends with the same. */
const readState = (path: string) =>
  Effect.option(
    Effect.flatMap(
      Effect.try(() => Fs.readFileSync(path, "utf8")),
      Schema.decode(Stored)
    )
  )

/** A file of somebody else's is not overwritten, an export least of all. */
const refuseForeign = (path: string) =>
  Effect.flatMap(
    doing(path, () => !Fs.existsSync(path) || isOurs(path)),
    (isFree) =>
      isFree
        ? Effect.void
        : new StartError({ message: `${path} is no file of rejected rows: --rejected names another one` })
  )

const isOurs = (path: string): boolean => {
  const file = Fs.openSync(path, "r")
  try {
    const head = Buffer.alloc(4096)
    const [line = ""] = head.toString("utf8", 0, Fs.readSync(file, head)).split("\n", 1)
    if (line === "") return Fs.fstatSync(file).size === 0
    const value: unknown = JSON.parse(line)
    return Predicate.hasProperty(value, "reason")
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  } finally {
    Fs.closeSync(file)
  }
}
