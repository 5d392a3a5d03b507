import { describe, expect, it } from "@effect/vitest"
import * as Scales from "../../src/Page/Scales.js"

describe("axes", () => {
  it.each([
    [0, 1],
    [1, 1],
    [4, 4],
    [7, 8],
    [9, 10],
    [11, 15],
    [1_950, 2_000],
    [2_100, 3_000],
    [98_412, 100_000]
  ])("end for %d at %d", (value, end) => expect(Scales.roundUp(value)).toBe(end))

  it("never end below the highest, nor much above it", () => {
    for (let value = 1; value < 5_000; value++) {
      const end = Scales.roundUp(value)
      expect(end >= value && end <= 2 * value && Number.isInteger(end), `${value}: ${end}`).toBe(true)
    }
  })

  it("have a label in the middle where that is a whole number", () => {
    expect(Scales.halves(4)).toEqual([0, 2, 4])
    expect(Scales.halves(15)).toEqual([0, 15])
  })

  it("stack parts on each other, the highest first, for the others are drawn over it", () => {
    const all = [
      { a: 1, b: 2 },
      { a: 0, b: 5 }
    ]
    const parts = (["a", "b"] as const).map((name) => ({ name, of: (each: { a: number; b: number }) => each[name] }))
    expect(Scales.stacked(all, parts).map(({ part, sums }) => [part.name, sums])).toEqual([
      ["b", [3, 5]],
      ["a", [1, 0]]
    ])
  })
})
