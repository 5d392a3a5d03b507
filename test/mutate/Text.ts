/** JSON written in many ways, by something that remembers where each value ended. */
import type { Prng } from "../simulation/Prng.js"

export type Value = string | number | boolean | null | ReadonlyArray<Value> | Fields

/** Fields in an order; a name may come twice. */
export interface Fields {
  readonly fields: ReadonlyArray<Field>
}

export interface Field {
  readonly name: string
  readonly value: Value
}

export const object = (...fields: ReadonlyArray<readonly [name: string, value: Value]>): Fields => ({
  fields: fields.map(([name, value]) => ({ name, value }))
})

export interface Style {
  readonly indentation: string
  /** How likely a character is written as an escape. */
  readonly escapes: number
  /** A byte order mark or white space. */
  readonly before: string
}

export const plain: Style = { indentation: "", escapes: 0, before: "" }

export interface Written {
  readonly text: string
  /** From how many bytes on the value of a field is there. */
  readonly endOf: (field: Field) => number
  /** From how many bytes on all of it is there. */
  readonly end: number
}

const isFields = (value: Value): value is Fields => typeof value === "object" && value !== null && "fields" in value

export const write = (prng: Prng, value: Value, style: Style): Written => {
  let text = style.before
  const ends = new Map<Field, number>()

  const quote = (content: string) => {
    const escaped = [...content].map((character) =>
      style.escapes > 0 && character.length === 1 && prng.chance(style.escapes)
        ? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
        : JSON.stringify(character).slice(1, -1)
    )
    return `"${escaped.join("")}"`
  }
  const lines = (depth: number) => (style.indentation === "" ? "" : `\n${style.indentation.repeat(depth)}`)

  const put = (value: Value, depth: number): void => {
    if (typeof value === "string") text += quote(value)
    else if (typeof value !== "object" || value === null) text += JSON.stringify(value)
    else if (isFields(value)) {
      text += "{"
      value.fields.forEach((field, index) => {
        text += `${index === 0 ? "" : ","}${lines(depth + 1)}${quote(field.name)}:${style.indentation === "" ? "" : " "}`
        put(field.value, depth + 1)
        // A number, or a word, is whole once something follows it.
        const bare = typeof field.value !== "string" && !(typeof field.value === "object" && field.value !== null)
        ends.set(field, Buffer.byteLength(text) + (bare ? 1 : 0))
      })
      text += `${lines(depth)}}`
    } else {
      text += "["
      value.forEach((item, index) => {
        text += index === 0 ? "" : ","
        put(item, depth + 1)
      })
      text += "]"
    }
  }

  put(value, 0)
  const end = Buffer.byteLength(text)
  return { text, end, endOf: (field) => ends.get(field) ?? Infinity }
}
