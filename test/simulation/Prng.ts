/** Random numbers from a seed: the same on every machine, and independent streams for independent purposes. */

export interface Prng {
  /** From 0 to 1, without 1. */
  readonly next: () => number
  /** A whole number from `min` to `max`, both included. */
  readonly int: (min: number, max: number) => number
  readonly chance: (probability: number) => boolean
  readonly pick: <A>(values: ReadonlyArray<A>) => A
  /** The same values in another order, in place. */
  readonly shuffle: <A>(values: Array<A>) => Array<A>
}

/** SplitMix32, started at a hash of seed and purpose. */
export const make = (seed: number, purpose: string): Prng => {
  let state = (seed ^ Math.floor(seed / 2 ** 32)) >>> 0
  for (let i = 0; i < purpose.length; i++) state = Math.imul(state ^ purpose.charCodeAt(i), 0x01000193) >>> 0
  const word = () => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }
  const next = () => word() / 2 ** 32
  const int = (min: number, max: number) => min + Math.floor(next() * (max - min + 1))
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (values) => {
      const value = values[int(0, values.length - 1)]
      if (value === undefined) throw new Error("nothing to pick from")
      return value
    },
    shuffle: (values) => {
      for (let i = values.length - 1; i > 0; i--) {
        const j = int(0, i)
        const other = values[j]
        const mine = values[i]
        if (other === undefined || mine === undefined) continue
        values[i] = other
        values[j] = mine
      }
      return values
    }
  }
}
