/** The steps of the refresh protocol at which a process can be told to die or to fall asleep. */

export type Step =
  | `claim:${"before" | "after"}`
  /** A token is journalled that the claim did not name: a fallback's turn comes, or a reissue's. */
  | `spend:${"before" | "after"}`
  /** A call to Cal.com: `after` is when Cal.com has answered and nothing of the answer was read. */
  | `${"refresh" | "probe" | "reissue"}:${"before" | "after"}`
  /** `after` is when the pair is stored and nobody was answered. */
  | `commit:${"before" | "after"}`
  /** `after` is when it is written how the attempt failed, and nobody was told. */
  | `fail:${"before" | "after"}`

/** The variable that tells a process its step. */
export const deathVariable = "FLEET_DIE_AT"

/** The variable that tells a process what to do to itself there. */
export const signalVariable = "FLEET_DIE_OF"

/** Death, or sleep until `SIGCONT`. */
export type Signal = "SIGKILL" | "SIGSTOP"

/** What a process writes before it falls asleep. */
export const asleep = "falls asleep"
