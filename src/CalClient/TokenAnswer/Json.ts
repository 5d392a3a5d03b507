/**
 * JSON that may have been cut off: what is complete in it counts. Members stay in the order of the text, and a name that
 * comes twice stays twice, because two tokens under one name are a question and not an answer.
 */
import { Option } from "effect"

export type Json = string | number | boolean | null | JsonObject | JsonArray

export interface JsonObject {
  readonly _tag: "Object"
  readonly members: ReadonlyArray<Member>
}

export interface JsonArray {
  readonly _tag: "Array"
  readonly items: ReadonlyArray<Json>
}

export type Member = readonly [name: string, value: Json]

export interface Text {
  /** Of an object or array that was cut off: the part that came. */
  readonly value: Json
  /** Whether the text came to its end. */
  readonly isComplete: boolean
}

/** Nobody nests deeper. What does is read as if it broke off there. */
const maxDepth = 32

const space = /[\t\n\r ]/
const wordCharacter = /[-+.\w]/
const words = ["true", "false", "null"]
const beginsNumber = /^-?\d*(?:\.\d*)?(?:[eE][+-]?\d*)?$/

/** What the text begins to say; `None` for what is no JSON, or nothing yet. */
export const parse = (text: string): Option.Option<Text> => {
  let at = 0
  let state: "reading" | "cut" | "wrong" = "reading"

  const is = (asked: typeof state) => state === asked

  const end = (how: "cut" | "wrong"): undefined => {
    state = how
  }

  /** The next character that is not white space, which stays the next one. */
  const peek = (): string | undefined => {
    while (space.test(text.charAt(at))) at++
    return text[at]
  }

  const expect = (character: string): boolean => {
    const next = peek()
    if (next === character) at++
    else end(next === undefined ? "cut" : "wrong")
    return next === character
  }

  const value = (depth: number): Json | undefined => {
    const next = peek()
    if (next === undefined || depth > maxDepth) return end("cut")
    if (next === "{") return object(depth)
    if (next === "[") return array(depth)
    if (next !== '"') return word()
    at++
    return string()
  }

  const object = (depth: number): JsonObject => {
    const members: Array<Member> = []
    list("}", () => {
      const name = expect('"') ? string() : undefined
      if (name === undefined || !expect(":")) return
      const member = value(depth + 1)
      if (member !== undefined) members.push([name, member])
    })
    return { _tag: "Object", members }
  }

  const array = (depth: number): JsonArray => {
    const items: Array<Json> = []
    list("]", () => {
      const item = value(depth + 1)
      if (item !== undefined) items.push(item)
    })
    return { _tag: "Array", items }
  }

  /** What stands between two brackets, separated by commas. */
  const list = (bracket: string, item: () => void): void => {
    at++
    if (peek() === bracket) {
      at++
      return
    }
    while (true) {
      item()
      if (!is("reading")) return
      if (peek() === bracket) {
        at++
        return
      }
      if (!expect(",")) return
    }
  }

  /** The rest of a string whose quotation mark was read. */
  const string = (): string | undefined => {
    const from = at - 1
    while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1
    if (at >= text.length) return end("cut")
    at++
    const read = scalar(text.slice(from, at))
    return typeof read === "string" ? read : end("wrong")
  }

  /** A number, or one of three words. At the end of the text more of it may have been to come. */
  const word = (): number | boolean | null | undefined => {
    const from = at
    while (wordCharacter.test(text.charAt(at))) at++
    const read = text.slice(from, at)
    if (read !== "" && at === text.length && (beginsNumber.test(read) || words.some((each) => each.startsWith(read)))) {
      return end("cut")
    }
    const meant = scalar(read)
    return typeof meant === "number" || typeof meant === "boolean" || meant === null ? meant : end("wrong")
  }

  const document = value(0)
  if (is("reading") && peek() !== undefined) end("wrong")
  return document === undefined || is("wrong")
    ? Option.none()
    : Option.some({ value: document, isComplete: is("reading") })
}

/** A single string, number or word; undefined if it is none. */
const scalar = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
