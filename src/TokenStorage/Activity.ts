/**
 * What goes on with all users, as histories and rows tell it: attempts by the minute in which they were entered, and whose
 * access token ends when. Instants are milliseconds since the epoch; those of attempts are of the storage's clock.
 */
import type { Event, Step, Written } from "../History.js"
import type { CircuitCause } from "./Circuits.js"

export const minute = 60_000

/** When the minute of an instant began. */
export const minuteOf = (at: number): number => Math.floor(at / minute) * minute

/** So many minutes are told of, the running one included. */
export const span = 60

/** So many of them are read at once: the attempts of an hour may be millions. */
export const atOnce = 10

/** What began an attempt. Nobody knows it of those that lapsed. */
export type Origin = (typeof origins)[number]
export const origins = ["asked", "refused", "ahead", "reissue", "lapsed"] as const

/** `reauthorizationRequired`: it failed so that a person has to reconnect. */
export type Outcome = "refreshed" | "failed" | "reauthorizationRequired"

/**
 * Why an attempt brought no pair: what came of its last call, with the status of Cal.com's answer and the error that it
 * became, where there were any. `unsent`: it made none. `lapsed`: its process never told.
 */
export interface Reason {
  readonly answer: (typeof answers)[number] | "unsent" | "lapsed"
  readonly status?: number
  readonly error?: string
}

export const answers = ["rejected", "notSpent", "unknown", "unreadable", "clientWide", "userGone"] as const

/** So much wider is each bucket of times than the one before: whatever lies in it is within half of that of its middle. */
export const growth = 1.07

/** Attempts of a minute that are alike. */
export interface Attempts {
  /** When the minute began. */
  readonly at: number
  readonly origin: Origin
  readonly outcome: Outcome
  /** Of those that brought no pair. */
  readonly reason?: Reason
  /** In which bucket their times are: from `growth ** bucket` ms on. */
  readonly bucket: number
  readonly count: number
  /** The longest of their times, in ms. */
  readonly longest: number
}

/** The longest time that is believed, in ms. */
export const longest = 86_400_000

/** In which bucket a time is. */
export const bucketOf = (took: number): number => Math.floor(Math.log(Math.max(1, took)) / Math.log(growth))

/** A time in the middle of a bucket, in ms. */
export const middleOf = (bucket: number): number => Math.round(growth ** (bucket + 0.5))

/** Attempts that were entered from the beginning of a minute on, before that of another. */
export interface Activity {
  /** When they were read. */
  readonly at: number
  readonly from: number
  readonly until: number
  readonly attempts: ReadonlyArray<Attempts>
}

/** A circuit that is open. */
export interface OpenCircuit {
  readonly clientId: string
  readonly cause: CircuitCause
  /** For people. */
  readonly reason: string
  /** Since when, however many trials have failed. */
  readonly openedAt: number
  readonly trialAt: number
}

/** Active users by the minute in which their access tokens end, in Cal.com's time. */
export interface Outlook {
  /** Whose token has ended by now. */
  readonly overdue: number
  /** The minutes that have any, of the next {@link span}. */
  readonly minutes: ReadonlyArray<{ readonly at: number; readonly users: number }>
  readonly circuits: ReadonlyArray<OpenCircuit>
}

/** What an entry of a history counts as, if it is the end of an attempt; and the time that took, of a pair that came. */
export const judge = (
  written: Written,
  event: Event
): (Omit<Attempts, "at" | "bucket" | "count" | "longest"> & { readonly took: number }) | undefined => {
  if (event._tag === "Lapsed") return { origin: "lapsed", outcome: "failed", reason: { answer: "lapsed" }, took: 0 }
  if (event._tag !== "Attempt") return undefined
  const { end, purpose, steps, took, trigger } = event
  const origin = purpose === "reissue" ? purpose : trigger
  if (end === "granted") return { origin, outcome: "refreshed", took: Math.min(Math.max(0, took), longest) }
  // That it failed was told before, when it was given up.
  if (steps[0]?.isLate === true) return undefined
  return {
    origin,
    outcome: end === "terminal" && written === "recorded" ? "reauthorizationRequired" : "failed",
    reason: reasonOf(steps.at(-1)),
    took: 0
  }
}

const reasonOf = (last: Step | undefined): Reason =>
  last === undefined || last.answer === "granted"
    ? { answer: "unsent" }
    : {
        answer: last.answer,
        ...(last.status === undefined ? {} : { status: last.status }),
        ...(last.error === undefined ? {} : { error: last.error })
      }
