/** Mishaps on the way to Cal.com and back, scripted: queued, matched against requests, used up in order. */
import { Data, Duration } from "effect"

/** What a request is for, to tell token traffic from the rest. */
export type Kind =
  | "createManaged"
  | "managedUser"
  | "refresh"
  | "forceRefresh"
  | "exchange"
  | "oauth2Code"
  | "oauth2Refresh"
  /** A token request that names no known grant type. */
  | "oauth2Token"
  | "authorize"
  | "provider"
  | "api"
  | "unknown"

/** Which requests a fault is meant for; what is absent matches everything. */
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
  /** Waits before the request takes effect, and after it did but before the answer leaves. */
  readonly before?: Duration.DurationInput | undefined
  readonly after?: Duration.DurationInput | undefined
}

interface Answer extends Script {
  /** Whether the request took effect although the answer does not say so. */
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
  /** 200 with a body that is not JSON; took effect unless `committed: false`. */
  Garbage: Answer
  /** 200 with a web page, as a proxy or a challenge sends it; took effect unless `committed: false`. */
  Html: Answer
  /** The request took effect; its answer breaks off in the middle of the body. */
  Truncated: Script
  /**
   * Opens `Switches.raceWindow` for this request alone. A refresh that arrives inside the window passes the same check;
   * with OAuth2 both are answered 200 and only the last one's refresh token lives, a managed one finds its row gone.
   */
  RaceBothSucceed: Script & { readonly window: Duration.DurationInput }
}>

const constructors = Data.taggedEnum<Fault>()

/** Constructors: `Fault.dropAfter({ kind: "refresh" })`. */
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
  garbage: (script: Answer = {}): Fault => constructors.Garbage(script),
  html: (script: Answer = {}): Fault => constructors.Html(script),
  truncated: (script: Script = {}): Fault => constructors.Truncated(script),
  raceBothSucceed: (window: Duration.DurationInput, script: Script = {}): Fault =>
    constructors.RaceBothSucceed({ ...script, window })
}

export interface Queue {
  readonly add: (fault: Fault) => void
  readonly clear: () => void
  /** The oldest fault that matches, which is thereby used once. */
  readonly take: (request: Required<Pick<Target, "kind" | "method">> & Struck) => Fault | undefined
}

interface Struck {
  readonly path: string
  readonly calUserId: number | undefined
}

export const makeQueue = (): Queue => {
  let queue: Array<{ readonly fault: Fault; left: number }> = []
  return {
    add: (fault) => {
      queue.push({ fault, left: fault.times ?? 1 })
    },
    clear: () => {
      queue = []
    },
    take: (request) => {
      if (queue.length === 0) return undefined
      const entry = queue.find(
        ({ fault }) =>
          (fault.kind === undefined || fault.kind === request.kind) &&
          (fault.calUserId === undefined || fault.calUserId === request.calUserId) &&
          (fault.method === undefined || fault.method === request.method) &&
          (fault.pathPrefix === undefined || request.path.startsWith(fault.pathPrefix))
      )
      if (entry === undefined) return undefined
      if (--entry.left <= 0) queue = queue.filter((other) => other !== entry)
      return entry.fault
    }
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
    case "Garbage":
    case "Html":
      return fault.committed ?? true
    case "Delay":
    case "DropAfter":
    case "RaceBothSucceed":
    case "Truncated":
      return true
  }
}

export const millis = (duration: Duration.DurationInput | undefined): number =>
  duration === undefined ? 0 : Duration.toMillis(duration)
