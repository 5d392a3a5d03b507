import { Option } from "effect"
import { FastCheck as fc } from "effect"
import { assert, describe, it } from "vitest"
import * as Json from "../../../src/CalClient/TokenAnswer/Json.js"

/** As JSON.parse has it, where no name comes twice. */
const plain = (value: Json.Json): unknown =>
  typeof value !== "object" || value === null
    ? value
    : value._tag === "Array"
      ? value.items.map(plain)
      : Object.fromEntries(value.members.map(([name, member]) => [name, plain(member)]))

const parse = (text: string) => Option.getOrUndefined(Json.parse(text))

const values = fc.json({ maxDepth: 4 })

describe("a whole text", () => {
  it("says what JSON.parse says", () => {
    fc.assert(
      fc.property(values, fc.constantFrom(undefined, 1, "\t"), (json, indentation) => {
        const value: unknown = JSON.parse(json)
        // A number or word by itself may go on.
        const text = JSON.stringify([value], null, indentation)
        const read = parse(text)
        assert.isTrue(read?.isComplete)
        assert.deepStrictEqual(read && plain(read.value), JSON.parse(text))
      })
    )
  })

  it("says nothing where JSON.parse finds a mistake that is not its end", () => {
    const mistakes = [
      "{,}",
      "[1,]",
      '{"a"}',
      '{"a":}',
      "{a:1}",
      "{'a':1}",
      '{"a":1 "b":2}',
      "[1 2]",
      "[01]",
      "[+1]",
      "[.5]"
    ]
    const more = [
      "[nul]",
      "[truer]",
      "[NaN]",
      '["\\x"]',
      '["a\nb"]',
      "{}{}",
      "[] x",
      "x",
      "<a>",
      "[-]",
      "[1e]",
      "]",
      ":"
    ]
    for (const text of [...mistakes, ...more]) {
      assert.throws(() => JSON.parse(text) as unknown)
      assert.isUndefined(parse(text), text)
    }
  })

  it("keeps a name that comes twice, and names of every kind", () => {
    const text = '{"a":1,"a":2,"__proto__":3,"":4}'
    assert.deepStrictEqual(parse(text)?.value, {
      _tag: "Object",
      members: [
        ["a", 1],
        ["a", 2],
        ["__proto__", 3],
        ["", 4]
      ]
    })
  })
})

describe("a text that was cut off", () => {
  it("says what was complete", () => {
    const text = '{"a":"x","b":[1,tru'
    assert.deepStrictEqual(parse(text), {
      value: {
        _tag: "Object",
        members: [
          ["a", "x"],
          ["b", { _tag: "Array", items: [1] }]
        ]
      },
      isComplete: false
    })
    for (const end of ['"', '"x', '"x\\', '"x\\"', "1", "-", "1.", "1e", "t", "tru", "nul", "true", "null", " "]) {
      const read = parse(`{"a":1,"b":${end}`)
      assert.deepStrictEqual(read, { value: { _tag: "Object", members: [["a", 1]] }, isComplete: false }, end)
    }
  })

  it("says nothing when nothing came", () => {
    for (const text of ["", " ", "\n", '"', '"ab', "1", "tr"]) assert.isUndefined(parse(text), text)
  })

  it("says nothing that the whole text does not", () => {
    const isPart = (part: unknown, all: unknown): boolean =>
      Array.isArray(part) && Array.isArray(all)
        ? part.every((item, index) => isPart(item, all[index]))
        : typeof part === "object" && part !== null && typeof all === "object" && all !== null
          ? Object.entries(part).every(([name, value]) => isPart(value, Reflect.get(all, name)))
          : Object.is(part, all)
    fc.assert(
      fc.property(values, fc.nat(), (json, cut) => {
        const text = `{"x":${json},"y":1}`
        const read = parse(text.slice(0, 1 + (cut % text.length)))
        assert(read !== undefined)
        assert.isTrue(isPart(plain(read.value), JSON.parse(text)))
      })
    )
  })
})

describe("a text of any size", () => {
  it("is read without a deep stack", () => {
    const deep = "[".repeat(1_000_000)
    assert.isFalse(parse(deep)?.isComplete)
    assert.isFalse(parse(`{"a":"x","b":${deep}`)?.isComplete)
    assert.isFalse(parse('{"a":'.repeat(200_000))?.isComplete)
  })

  it("is read once", () => {
    const long = `["${"\\\\x".repeat(300_000)}",${"1,".repeat(100_000)}2]`
    assert.isTrue(parse(long)?.isComplete)
    assert.isFalse(parse(`["${"\\".repeat(1_000_000)}`)?.isComplete)
  })
})
