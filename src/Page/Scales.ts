/** Where axes end and what lies on what. Pure. */

const bases = [1, 1.5, 2, 3, 4, 5, 6, 8]

/** A whole number that is round and not below: where an axis ends. */
export const roundUp = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)))
  return Math.ceil((bases.find((base) => base * power >= value) ?? 10) * power)
}

/** Labels of an axis from 0, with one in the middle where that is a whole number. */
export const halves = (top: number): ReadonlyArray<number> => (top % 2 === 0 ? [0, top / 2, top] : [0, top])

/** Of each, the sums of its parts from the axis on. The last of them, which is all, comes first: the others are drawn over it. */
export const stacked = <A, P extends { readonly of: (each: A) => number }>(
  all: ReadonlyArray<A>,
  parts: ReadonlyArray<P>
): ReadonlyArray<{ readonly part: P; readonly sums: ReadonlyArray<number> }> => {
  const below = all.map(() => 0)
  return parts.map((part) => ({ part, sums: all.map((each, index) => (below[index]! += part.of(each))) })).reverse()
}
