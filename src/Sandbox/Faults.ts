/** Mishaps on the way to Cal.com and back, scripted: queued, matched against requests, used up in order. */
import { Data, Duration } from "effect"
import { type Kind } from "./Kind.js"
import { type Name, oddAnswers } from "./OddAnswers.js"

/**
 * Which requests a fault is meant for; what is absent matches everything.
 *
 * @since 0.1.0
 * @category models
 */
export interface Target {
  readonly kind?: Kind | undefined
  readonly calUserId?: number | undefined
  readonly method?: string | undefined
  /** Without the `/api` prefix, as in `/v2/bookings`. */
  readonly pathPrefix?: string | undefined
}

export interface Script extends Target {
  /** How many requests it strikes; default 1, `Infinity` for all of them until `clearFaults`. */
  readonly times?: number | undefined
  /** It ends by itself after this time; then `times` is `Infinity` unless it says otherwise. */
  readonly for?: Duration.DurationInput | undefined
  /** Waits before the request takes effect, and after it did but before the answer leaves. */
  readonly before?: Duration.DurationInput | undefined
  readonly after?: Duration.DurationInput | undefined
}

interface Answer extends Script {
  /** Whether the request took effect although the answer does not say so. */
  readonly committed?: boolean | undefined
}

export interface Odd extends Script {
  /** `cut` only: after so many bytes of the body. Where the body is no longer than that, it arrives whole. */
  readonly at?: number | undefined
  /** `maintenancePage` and `garbage` only: `false` if Cal.com did nothing. Default `true`: the pair is lost. */
  readonly committed?: boolean | undefined
}

export type Fault = Data.TaggedEnum<{
  /** Nobody listens: the request never leaves the caller. Over a real socket the nearest thing is a reset. */
  RefuseConnection: Script
  /** The connection breaks and nothing took effect. */
  DropBefore: Script
  /** The request took effect and its answer is lost. */
  DropAfter: Script
  /** Only the waits of `before` and `after`. */
  Delay: Script
  /** This status instead of Cal.com's answer; 429 and 500 in Cal.com's envelope, 502 to 504 as a gateway's page. */
  Status: Answer & { readonly status: number; readonly headers?: Readonly<Record<string, string>> | undefined }
  /** The request took effect, and its answer is not as the contract has it. */
  Odd: Odd & { readonly answer: Name }
  /**
   * Opens `Switches.raceWindow` for this request alone. A refresh that arrives inside the window passes the same check;
   * with OAuth2 both are answered 200 and only the last one's refresh token lives, a managed one finds its row gone.
   */
  RaceBothSucceed: Script & { readonly window: Duration.DurationInput }
}>

const constructors = Data.taggedEnum<Fault>()

/**
 * An odd answer, by its name in `OddAnswers`, as in `Fault.odd("expiryMissing", { kind: "refresh", times: 3 })`. It
 * strikes requests whose answers can be odd in this way; where Cal.com refuses such a request, a change to pairs has
 * nothing to change. Throws where the two can never meet.
 */
const odd = (answer: Name, script: Odd = {}): Fault => {
  const problem = problemOf(answer, script)
  if (problem !== undefined) throw new Error(problem)
  return constructors.Odd({ ...script, answer })
}

/** Why an odd answer cannot be scripted like this. */
export const problemOf = (answer: Name, { at, committed, kind }: Odd): string | undefined => {
  const { kinds, replaces } = oddAnswers[answer]
  if (kind !== undefined && kinds?.includes(kind) === false) {
    return `The sandbox can answer ${answer} to ${kinds.join(", ")} only`
  }
  if (at !== undefined && answer !== "cut") return `Only cut is told where, not ${answer}`
  return committed === false && replaces !== true ? `There is no ${answer} if Cal.com does nothing` : undefined
}

/**
 * Constructors: `Fault.dropAfter({ kind: "refresh" })`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Fault = {
  refuseConnection: (script: Script = {}): Fault => constructors.RefuseConnection(script),
  dropBefore: (script: Script = {}): Fault => constructors.DropBefore(script),
  dropAfter: (script: Script = {}): Fault => constructors.DropAfter(script),
  delayBefore: (duration: Duration.DurationInput, script: Script = {}): Fault =>
    constructors.Delay({ ...script, before: duration }),
  delayAfter: (duration: Duration.DurationInput, script: Script = {}): Fault =>
    constructors.Delay({ ...script, after: duration }),
  status: (
    status: number,
    script: Answer & { readonly headers?: Readonly<Record<string, string>> | undefined } = {}
  ): Fault => constructors.Status({ ...script, status }),
  odd,
  /** `odd("garbage")`. */
  garbage: (script: Answer = {}): Fault => odd("garbage", script),
  /** `odd("maintenancePage")`. */
  html: (script: Answer = {}): Fault => odd("maintenancePage", script),
  /** `odd("cut")`: in the middle of the body. */
  truncated: (script: Script = {}): Fault => odd("cut", script),
  raceBothSucceed: (window: Duration.DurationInput, script: Script = {}): Fault =>
    constructors.RaceBothSucceed({ ...script, window })
}

/** How a fault is called in the list of calls. */
export const labelOf = (fault: Fault): FaultLabel => (fault._tag === "Odd" ? fault.answer : fault._tag)
export type FaultLabel = Exclude<Fault["_tag"], "Odd"> | Name

interface Arriving {
  readonly kind: Kind
  readonly method: string
  readonly path: string
  readonly calUserId: number | undefined
}

export interface Queued {
  readonly fault: Fault
  /** How many more requests it strikes. */
  readonly left: number
  /** When it ends by itself, in milliseconds since the epoch. */
  readonly until: number
}

/** `now` is Effect's time in milliseconds. */
export interface Queue {
  readonly add: (fault: Fault, now: number) => void
  /** Forgets all faults, or those of this kind. */
  readonly clear: (tag?: Fault["_tag"]) => void
  /** The oldest fault that matches, which is thereby used once. */
  readonly take: (request: Arriving, now: number) => Fault | undefined
  readonly all: (now: number) => ReadonlyArray<Queued>
}

const strikes = (fault: Fault, request: Arriving): boolean =>
  (fault.kind === undefined || fault.kind === request.kind) &&
  (fault.calUserId === undefined || fault.calUserId === request.calUserId) &&
  (fault.method === undefined || fault.method === request.method) &&
  (fault.pathPrefix === undefined || request.path.startsWith(fault.pathPrefix)) &&
  (fault._tag !== "Odd" || oddAnswers[fault.answer].kinds?.includes(request.kind) !== false)

export const makeQueue = (): Queue => {
  let queue: ReadonlyArray<Queued> = []
  const waiting = (now: number) => (queue = queue.filter(({ until }) => now < until))
  return {
    add: (fault, now) => {
      const isTimed = fault.for !== undefined
      const entry = {
        fault,
        left: fault.times ?? (isTimed ? Infinity : 1),
        until: isTimed ? now + millis(fault.for) : Infinity
      }
      queue = [...queue, entry]
    },
    clear: (tag) => {
      queue = tag === undefined ? [] : queue.filter(({ fault }) => fault._tag !== tag)
    },
    take: (request, now) => {
      const struck = waiting(now).find(({ fault }) => strikes(fault, request))
      if (struck === undefined) return undefined
      queue = queue.flatMap((entry) =>
        entry !== struck ? [entry] : entry.left > 1 ? [{ ...entry, left: entry.left - 1 }] : []
      )
      return struck.fault
    },
    all: waiting
  }
}

/** Whether the request takes effect under this fault. */
export const commits = (fault: Fault): boolean => {
  switch (fault._tag) {
    case "RefuseConnection":
    case "DropBefore":
      return false
    case "Status":
      return fault.committed ?? false
    case "Odd":
      return fault.committed ?? true
    case "Delay":
    case "DropAfter":
    case "RaceBothSucceed":
      return true
  }
}

export const millis = (duration: Duration.DurationInput | undefined): number =>
  duration === undefined ? 0 : Duration.toMillis(duration)
