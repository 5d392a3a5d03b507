/** A line of the table of speed: what is measured, against what, and what it has to reach. */

export interface Row {
  /** For `--row`. */
  readonly name: string
  /** What the figure is: `× google-auth-library`, `KiB`. */
  readonly figure: string
  readonly target: number
  /** Whether the target is a floor; else it is a ceiling. */
  readonly isFloor?: boolean
  readonly measure: () => Promise<number>
}

export const isMet = ({ isFloor = false, target }: Row, figure: number): boolean =>
  isFloor ? figure >= target : figure <= target

export const median = (values: ReadonlyArray<number>): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN

/** `--quick` takes a look: for a machine that has other things to do. */
export const roundsOf = (many: number): number =>
  process.argv.includes("--quick") ? Math.max(1, Math.round(many / 4)) : many

const time = async (work: () => unknown): Promise<number> => {
  const begun = process.hrtime.bigint()
  await work()
  return Number(process.hrtime.bigint() - begun)
}

/**
 * How much longer one takes than the other: medians over rounds that alternate, so that whatever else the machine does
 * meets both. The first rounds, in which code is compiled, do not count.
 */
export const ratio = async (
  rounds: number,
  ours: () => unknown,
  theirs: () => unknown,
  before: () => unknown = () => {}
): Promise<number> => {
  const took = { ours: new Array<number>(), theirs: new Array<number>() }
  for (let round = -2; round < roundsOf(rounds); round++) {
    // Who comes first alternates, too: garbage of the one is collected during the other.
    const order = round % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const)
    for (const who of order) {
      // Else the one pays for the marking of the other's garbage: with 100,000 users that is half of what a look takes.
      globalThis.gc?.()
      await before()
      const each = await time(who === "ours" ? ours : theirs)
      if (round >= 0) took[who].push(each)
    }
  }
  return median(took.ours) / median(took.theirs)
}
