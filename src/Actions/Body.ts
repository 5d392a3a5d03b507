/**
 * Request bodies of plain functions. `JSON.stringify` takes whatever it is given and makes `{}` of a form, a map or a
 * stream, and a text of a text that is JSON already: Cal.com would be asked for something that nobody meant. What is no
 * plain JSON value is refused here, with the words for what to pass instead, and never a value.
 */
import { Effect, Predicate } from "effect"
import { InvalidInput } from "../TokenError.js"

/** Where something is wrong in a body, and what to pass there. */
interface Problem {
  readonly field: string
  readonly expected: string
}

const fromEntries = "pass Object.fromEntries(it)"

/** What JSON makes `{}` or worse of, by what people know it as, and what to pass. */
const kinds: ReadonlyArray<readonly [is: (value: object) => boolean, name: string, instead: string]> = [
  [(value) => isA(value, "FormData"), "a FormData", fromEntries],
  [(value) => isA(value, "URLSearchParams"), "a URLSearchParams", fromEntries],
  [(value) => isA(value, "Headers"), "a Headers", fromEntries],
  [(value) => value instanceof Map, "a Map", fromEntries],
  [(value) => value instanceof Set, "a Set", "pass [...it]"],
  [(value) => isA(value, "Request", "Response"), "a request or response", "pass await it.json()"],
  [
    (value) => isA(value, "Blob", "File", "ArrayBuffer", "SharedArrayBuffer") || ArrayBuffer.isView(value),
    "bytes",
    "pass the JSON value that is in them"
  ],
  [
    (value) =>
      isA(value, "ReadableStream") ||
      Symbol.asyncIterator in value ||
      ("pipe" in value && Predicate.isFunction(value.pipe)),
    "a stream",
    "read it, and pass the JSON value that is in it"
  ],
  [(value) => "then" in value && Predicate.isFunction(value.then), "a promise", "await it"],
  [(value) => value instanceof Error, "an Error", "pass what Cal.com shall know of it"],
  [(value) => Symbol.iterator in value, "an iterable", "pass [...it]"]
]

/** Of this realm or another one, such as a test environment's. */
function isA(value: object, ...names: ReadonlyArray<string>): boolean {
  return names.includes(Object.prototype.toString.call(value).slice(8, -1))
}

const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Nobody reads more, and paths that are told stay short. */
const deepest = 100

/** Fields of code have names; others are somebody's data, and not told. */
const below = (field: string, key: string) => (/^[A-Za-z_$][\w$]{0,40}$/.test(key) ? `${field}.${key}` : field)

/** `above`: what the value is in. */
const problemOf = (value: unknown, field: string, above: Set<object>): Problem | undefined => {
  const expected = typeof value === "object" && value !== null ? ofObject(value, above) : ofOther(value)
  if (expected !== undefined) return { field, expected }
  if (typeof value !== "object" || value === null || saysItself(value)) return undefined
  above.add(value)
  const problem = Array.isArray(value)
    ? firstOf(value, (item: unknown, index) => problemOf(item, `${field}[${index}]`, above))
    : firstOf(Object.entries(value), ([key, item]) => problemOf(item, below(field, key), above))
  above.delete(value)
  return problem
}

const ofOther = (value: unknown): string | undefined => {
  if (typeof value === "bigint") return "must not be a BigInt: pass a number, or a text"
  if (typeof value === "number") return Number.isFinite(value) ? undefined : "must be a finite number"
  return typeof value === "function" || typeof value === "symbol" ? "must be a JSON value" : undefined
}

const ofObject = (value: object, above: Set<object>): string | undefined => {
  if (above.has(value)) return "must not contain itself"
  if (above.size >= deepest) return `must not be nested more than ${deepest} levels deep`
  if (Array.isArray(value)) return undefined
  const kind = kinds.find(([is]) => is(value))
  if (kind !== undefined) return `must be a plain JSON value, and not ${kind[1]}: ${kind[2]}`
  return saysItself(value) || isPlain(value) || Object.keys(value).length > 0
    ? undefined
    : "must be a plain JSON value, and not an instance of a class that has no fields: pass an object with them"
}

/** What stands for it, as a Date does. */
const saysItself = (value: object): boolean => "toJSON" in value && Predicate.isFunction(value.toJSON)

const firstOf = <A>(
  items: ReadonlyArray<A>,
  look: (item: A, index: number) => Problem | undefined
): Problem | undefined => {
  for (const [index, item] of items.entries()) {
    const problem = look(item, index)
    if (problem !== undefined) return problem
  }
  return undefined
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The same value, if JSON can say it. */
export const plain = (body: unknown): Effect.Effect<unknown, InvalidInput> =>
  Effect.suspend(() => {
    if (typeof body === "string" && isJson(body)) {
      return new InvalidInput({
        field: "body",
        expected: "is JSON already: pass the value itself, without JSON.stringify"
      })
    }
    const problem = problemOf(body, "body", new Set())
    return problem === undefined ? Effect.succeed(body) : new InvalidInput(problem)
  }).pipe(
    // A field that cannot be read.
    Effect.catchAllDefect(() => new InvalidInput({ field: "body", expected: "must be a JSON value" }))
  )
