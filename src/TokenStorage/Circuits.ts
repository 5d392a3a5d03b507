/**
 * The circuit of a client, one for the whole fleet: the pure half of it, as `Rows` is for users. While it is open nobody
 * is refreshed but for trials, one per interval, so that a fault which concerns every user costs one call per interval
 * instead of one per user and process.
 *
 * | Event                                  | closed | open: `client`               | open: `brake`                        | open: `drift`                    |
 * | -------------------------------------- | ------ | ---------------------------- | ------------------------------------ | -------------------------------- |
 * | a claim                                | passes | the next trial, or held      | the same; who was refused waits longer | a trial that risks nothing, a rare one, or held; held while the token serves, or an answer is kept |
 * | a pair, claimed after it opened        | –      | closes                       | closes                               | closes                           |
 * | a user refused, claimed after it opened | –     | closes: the client is fine   | the trial failed, nobody is marked   | stays open                       |
 * | Cal.com refuses the client             | opens  | the trial failed             | becomes `client`                     | the trial failed                 |
 * | many users refused (`brake`)           | opens  | –                            | –                                    | –                                |
 * | an answer nobody understands           | opens  | becomes `drift`              | becomes `drift`                      | the trial failed                 |
 *
 * When a drift ended, a program that reads the answers may still be at it, and one that does not may run beside it. So for
 * {@link readingTime} an OAuth2 user of whom an answer is kept is held all the same, and not marked: the token that was
 * spent for it shows nothing, and its successor may be about to be stored.
 *
 * Instants are milliseconds since the epoch, by the storage's clock.
 */
import { Data, Duration } from "effect"
import type { Connection, UserUlid } from "../Token.js"

/** Which client, in which configuration: a process with a wrong secret or URL stops only those that share it. */
export interface ClientKey {
  readonly clientId: string
  /** Of the secrets and the API's address; none of it can be read from it. */
  readonly fingerprint: string
}

/** `client`: Cal.com refuses it. `brake`: it refused many users at once. `drift`: its answers changed. */
export type CircuitCause = "client" | "brake" | "drift"

export interface OpenCircuit {
  readonly cause: CircuitCause
  /** For people. */
  readonly reason: string
  /** Since when it has been open. */
  readonly since: number
  /** When it was opened, or found to be open, last. */
  readonly openedAt: number
  /** When the next trial is due. */
  readonly trialAt: number
  /** The same for trials that may cost a user their connection: OAuth2 users, while Cal.com's answers are not understood. */
  readonly riskAt: number
  /** How many of those there were. */
  readonly risks: number
  /** Whose trials failed: the next one is somebody else's, if anybody else comes. */
  readonly tried: ReadonlyArray<UserUlid>
}

interface Held {
  readonly cause: CircuitCause
  readonly reason: string
  readonly retryAfter: Duration.Duration
  /** Until anybody's next trial. */
  readonly trialIn: Duration.Duration
}

/** What a circuit says to a claim. */
export type Admission = Data.TaggedEnum<{
  Closed: {}
  Held: Held
  /** The call is a trial; `reissue`: one that spends no token. */
  Trial: { readonly next: OpenCircuit; readonly reissue: boolean }
}>
export const Admission = Data.taggedEnum<Admission>()

/** The waits before trials that put a user at risk: a minute, doubling up to an hour. */
const riskDelay = (risks: number): number => Math.min(60, 2 ** Math.min(risks, 6)) * 60_000

/** After a drift, in milliseconds: see above. */
export const readingTime = 5 * 60_000

export const isReading = (driftEndedAt: number | undefined, now: number): boolean =>
  driftEndedAt !== undefined && driftEndedAt <= now && now < driftEndedAt + readingTime

export const keptReason = "Cal.com's answers changed: the one for this user is kept for a version that reads it"

/** So many users are remembered whose trials failed. */
export const maxTried = 50

/**
 * `isWaiting`: nothing but a new pair can serve the user, or a new one was asked for. `hasSealed`: an answer of the user is
 * kept that nobody could read, to the token that would be spent. `driftEndedAt`: when the client's last drift did.
 */
export const admit = (
  circuit: OpenCircuit | undefined,
  user: {
    readonly userUlid: UserUlid
    readonly kind: Connection["_tag"]
    readonly isWaiting: boolean
    /** Nobody asked for it: trials are for others. */
    readonly isAhead?: boolean
    readonly hasSealed: boolean
  },
  now: number,
  interval: number,
  driftEndedAt?: number
): Admission => {
  if (circuit === undefined) {
    if (driftEndedAt === undefined || user.kind !== "OAuth2" || !user.hasSealed) return Admission.Closed()
    if (!isReading(driftEndedAt, now)) return Admission.Closed()
    const retryAfter = Duration.millis(Math.min(interval, driftEndedAt + readingTime - now))
    return Admission.Held({ cause: "drift", reason: keptReason, retryAfter, trialIn: Duration.zero })
  }
  const { cause, reason } = circuit
  const isRisk = circuit.cause === "drift" && user.kind === "OAuth2"
  const wasTried = circuit.tried.includes(user.userUlid)
  const [trialAt, longest] = isRisk ? [circuit.riskAt, riskDelay(circuit.risks)] : [circuit.trialAt, interval]
  const wait = trialAt + (wasTried && !isRisk ? interval : 0) - now
  const trialIn = Duration.millis(Math.max(0, trialAt - now))
  // Nobody's token that still serves is put at risk, and one that was spent for an answer would show nothing.
  if (user.isAhead === true || (circuit.cause === "drift" && (!user.isWaiting || (isRisk && user.hasSealed)))) {
    return Admission.Held({ cause, reason, retryAfter: Duration.millis(Math.max(wait, interval)), trialIn })
  }
  // Further away than that only after the clock was put back.
  if (wait > 0 && trialAt - now <= longest) {
    return Admission.Held({ cause, reason, retryAfter: Duration.millis(wait), trialIn })
  }
  const next = isRisk
    ? { ...circuit, riskAt: now + riskDelay(circuit.risks + 1), risks: circuit.risks + 1 }
    : { ...circuit, trialAt: now + interval }
  return Admission.Trial({ next, reissue: circuit.cause === "drift" && user.kind === "ManagedUser" })
}

/** The circuit after something opened it, or was found open to be so again. */
export const open = (
  circuit: OpenCircuit | undefined,
  { cause, reason, userUlid }: { readonly cause: CircuitCause; readonly reason: string; readonly userUlid?: UserUlid },
  now: number,
  interval: number
): OpenCircuit => {
  const tried = cause === "client" || userUlid === undefined ? [] : [userUlid]
  // Nothing but an answer that is understood ends a drift.
  if (circuit?.cause === "drift") return { ...circuit, trialAt: now + interval, openedAt: now }
  const known = circuit?.cause === cause ? circuit.tried.filter((other) => other !== userUlid) : []
  return {
    cause,
    reason,
    since: circuit?.since ?? now,
    openedAt: now,
    trialAt: now + interval,
    riskAt: now + riskDelay(0),
    risks: 0,
    tried: [...tried, ...known].slice(0, maxTried)
  }
}

/** Cal.com granted a pair to an attempt that was claimed at `claimedAt`. */
export const granted = (circuit: OpenCircuit | undefined, claimedAt: number): OpenCircuit | undefined =>
  circuit !== undefined && claimedAt > circuit.openedAt ? undefined : circuit

/**
 * Cal.com refuses a user for good. It looks at a user only after it accepted the client, so that much is over; unless the
 * brake is on, which was opened by refusals in the first place.
 */
export const refused = (circuit: OpenCircuit | undefined, claimedAt: number): OpenCircuit | undefined =>
  circuit?.cause === "client" ? granted(circuit, claimedAt) : circuit

export const brakeReason =
  "it refused many users within a short time, which looks like a wrong client or URL, or like a second system that refreshes them"

/** Whether so many refused users among so many refreshes look like one wrong key or URL. */
export const isBraking = (counts: { readonly refused: number; readonly granted: number }, fewest: number): boolean =>
  counts.refused >= fewest && counts.refused > counts.granted
