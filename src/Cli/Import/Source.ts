/** Where the connections of another system are read from, whatever holds them. */
import { Data, type Effect, type Stream } from "effect"
import type { StartError } from "../../Environment.js"

/** What the columns of the other system are called. */
export interface Columns {
  readonly user: string
  readonly calUser: string
  readonly accessToken: string
  readonly refreshToken: string
  readonly expiry: string
  /** Few systems have it. */
  readonly refreshExpiry: string | undefined
}

/** A value of each, as it was found; undefined or null where there is none. */
export type Fields = { readonly [Name in keyof Columns]: unknown }

/** A row, or what keeps it from being one. `place`: its line in a file, its number in a table. */
export type Raw = Data.TaggedEnum<{
  Row: { readonly place: number; readonly done: number; readonly fields: Fields }
  Unreadable: { readonly place: number; readonly done: number; readonly problem: string }
}>
export const Raw = Data.taggedEnum<Raw>()

/** How far somebody has come: all rows up to this one. */
export interface Position {
  readonly place: number
  /** As the source has it; of the last row that has one. */
  readonly user: string | undefined
}

export interface Source {
  /** For people. */
  readonly name: string
  /** What {@link Raw}'s `place` counts. */
  readonly unit: "line" | "row"
  /** Tells whether a source is the same, and nothing secret of it; none where nobody can read it twice. */
  readonly identity: ReadonlyArray<unknown> | undefined
  /** How much there is of what `done` counts, where that is known. */
  readonly total: Effect.Effect<number | undefined, StartError>
  /** What comes after a position, in an order that stays. */
  readonly rows: (after: Position) => Stream.Stream<Raw, StartError>
}

export const start: Position = { place: 0, user: undefined }

/** The names, by what they are for: those that there are. */
export const named = (columns: Columns): ReadonlyArray<readonly [keyof Columns, string]> =>
  (["user", "calUser", "accessToken", "refreshToken", "expiry", "refreshExpiry"] as const).flatMap((key) => {
    const name = columns[key]
    return name === undefined ? [] : [[key, name] as const]
  })

/** What an object with columns has of them. */
export const fieldsOf = (columns: Columns, value: (column: string) => unknown): Fields => {
  const fields: Record<keyof Columns, unknown> = {
    user: undefined,
    calUser: undefined,
    accessToken: undefined,
    refreshToken: undefined,
    expiry: undefined,
    refreshExpiry: undefined
  }
  for (const [key, name] of named(columns)) fields[key] = value(name)
  return fields
}

/** An error of the system, without what else is in it. */
export const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "unreadable"
