/** Sources that are files: CSV and JSON lines, from a path or from standard input. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Readable } from "node:stream"
import { CsvError, parse } from "csv-parse"
import { Effect, Predicate, Stream } from "effect"
import { StartError } from "../../Environment.js"
import { type Columns, codeOf, fieldsOf, named, type Position, Raw, type Source } from "./Source.js"

/** Longer than any row with tokens; one that is longer has a quote or a line break too few. In bytes. */
const longest = 256 * 1024

/** So many rows travel together. */
const together = 500

interface Opened {
  readonly stream: Readable
  readonly name: string
}

type Read = (opened: Opened, columns: Columns) => AsyncGenerator<ReadonlyArray<Raw>>

const fromFile = (format: string, path: string, columns: Columns, read: Read): Effect.Effect<Source, StartError> =>
  Effect.gen(function* () {
    const isInput = path === "-"
    const name = isInput ? "standard input" : path
    const stat = isInput ? undefined : yield* statOf(path)
    const open = (): Opened => ({ name, stream: isInput ? process.stdin : Fs.createReadStream(path) })
    return {
      name,
      unit: "line",
      // Another export under the same name has other lines.
      identity: stat?.isFile() ? [format, Path.resolve(path), stat.size, stat.mtimeMs, named(columns)] : undefined,
      total: Effect.succeed(stat?.isFile() ? stat.size : undefined),
      rows: (after) =>
        Stream.fromAsyncIterable(read(open(), columns), (error) =>
          error instanceof StartError ? error : new StartError({ message: `${name} cannot be read (${codeOf(error)})` })
        ).pipe(Stream.flattenIterables, beyond(name, columns, after))
    }
  })

const statOf = (path: string) =>
  Effect.try({
    try: () => Fs.statSync(path),
    catch: (error) => new StartError({ message: `${path} cannot be read (${codeOf(error)})` })
  }).pipe(
    Effect.filterOrFail(
      (stat) => !stat.isDirectory(),
      () => new StartError({ message: `${path} is a directory` })
    )
  )

/** What comes after a place, or else after the row of a user. */
const beyond =
  (name: string, columns: Columns, { place, user }: Position) =>
  <E>(rows: Stream.Stream<Raw, E>): Stream.Stream<Raw, E | StartError> => {
    if (place > 0 || user === undefined) return Stream.dropWhile(rows, (raw) => raw.place <= place)
    const isUser = (raw: Raw) => raw._tag === "Row" && raw.fields.user === user
    return Stream.suspend(() => {
      let isFound = false
      const rest = Stream.filter(rows, (raw) => {
        if (isFound) return true
        isFound = isUser(raw)
        return false
      })
      const missing = Effect.suspend(() =>
        isFound
          ? Effect.void
          : new StartError({ message: `No row of ${name} has in its column ${columns.user} what --after says` })
      )
      return Stream.concat(rest, Stream.drain(Stream.fromEffect(missing)))
    })
  }

/** With a first line that names the columns. */
export const csv = (path: string, columns: Columns): Effect.Effect<Source, StartError> =>
  fromFile("csv", path, columns, readCsv)

const readCsv: Read = async function* ({ name, stream }, columns) {
  const parser = parse({
    bom: true,
    info: true,
    max_record_size: longest,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true
  })
  // Piped by hand, lest an error of the file stay unheard.
  stream.on("error", (error) => parser.destroy(error)).pipe(parser)
  let head: ReadonlyMap<string, number> | undefined
  let rows: Array<Raw> = []
  try {
    for await (const { info, record } of parser as AsyncIterable<Record>) {
      if (head === undefined) {
        head = headOf(name, columns, record)
        continue
      }
      const { bytes: done, lines: place } = info
      const indices = head
      const fields = fieldsOf(columns, (column) => record[indices.get(column) ?? -1])
      rows.push(
        record.length === head.size
          ? Raw.Row({ place, done, fields })
          : Raw.Unreadable({
              place,
              done,
              problem: `has ${record.length} columns, where the first line has ${head.size}`
            })
      )
      if (rows.length >= together) {
        yield rows
        rows = []
      }
    }
  } catch (error) {
    if (error instanceof CsvError) throw new StartError({ message: `${name} is no CSV (${wrongIn(error)})` })
    throw error
  }
  if (head === undefined) headOf(name, columns, [])
  yield rows
}

interface Record {
  readonly info: { readonly bytes: number; readonly lines: number }
  readonly record: ReadonlyArray<string>
}

/** Its message may quote the file. */
const wrongIn = ({ code, ...context }: CsvError) => {
  const line = "lines" in context && typeof context.lines === "number" ? ` in line ${context.lines}` : ""
  return code === "CSV_QUOTE_NOT_CLOSED" || code === "CSV_MAX_RECORD_SIZE"
    ? `a row that does not end${line}: is a quote missing?`
    : `${code}${line}`
}

/** Where the columns are. What the file calls its columns is not told: without a first line for names these are tokens. */
const headOf = (name: string, columns: Columns, record: ReadonlyArray<string>): ReadonlyMap<string, number> => {
  const names = record.map((text) => text.trim())
  const missing = named(columns).find(([, column]) => !names.includes(column))
  if (missing !== undefined) {
    const [key, column] = missing
    throw new StartError({
      message: `The first line of ${name} names no column ${column}: ${optionOf(key)} says what it is called there`
    })
  }
  const head = new Map(names.map((column, index) => [column, index]))
  if (head.size < names.length) throw new StartError({ message: `The first line of ${name} names a column twice` })
  return head
}

/** An object in each line. */
export const jsonLines = (path: string, columns: Columns): Effect.Effect<Source, StartError> =>
  fromFile("jsonl", path, columns, readJsonLines)

const readJsonLines: Read = async function* ({ name, stream }, columns) {
  let rows: Array<Raw> = []
  for await (const { bytes: done, line, place } of linesOf(name, stream)) {
    if (line.trim() === "") continue
    const value = parsed(line)
    rows.push(
      value === undefined
        ? Raw.Unreadable({ place, done, problem: "is no JSON object" })
        : Raw.Row({ place, done, fields: fieldsOf(columns, (column) => value[column]) })
    )
    if (rows.length >= together) {
      yield rows
      rows = []
    }
  }
  yield rows
}

const parsed = (line: string) => {
  try {
    const value: unknown = JSON.parse(line)
    return Predicate.isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}

interface Line {
  readonly line: string
  /** From 1 on. */
  readonly place: number
  /** All that was read until its end, and a little more. */
  readonly bytes: number
}

/** Lines of a bounded length; Node's `readline` knows no bound, and does not hear of errors. */
async function* linesOf(name: string, stream: Readable): AsyncGenerator<Line> {
  const decoder = new TextDecoder()
  let place = 0
  let bytes = 0
  let rest = ""
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) yield { line, place: ++place, bytes }
    if (rest.length > longest) {
      throw new StartError({ message: `Line ${place + 1} of ${name} is longer than any row is: are these JSON lines?` })
    }
  }
  rest += decoder.decode()
  if (rest !== "") yield { line: rest, place: ++place, bytes }
}

/** The option that names a column. */
const optionOf = (key: keyof Columns): string =>
  ({
    user: "--column-user",
    calUser: "--column-cal-user",
    accessToken: "--column-access-token",
    refreshToken: "--column-refresh-token",
    expiry: "--column-expiry",
    refreshExpiry: "--column-refresh-expiry"
  })[key]
