/**
 * A history before it happens: who calls what when, and what goes wrong. A plan is data, so that a failing one can be
 * printed, made smaller, and run again.
 */
import * as Prng from "./Prng.js"

export type CallerOp = "ensure" | "force" | "reissue" | "api" | "connect" | "update" | "disconnect" | "info"

/** Somebody who asks a node for something. Instants are milliseconds from the start. */
export interface Caller {
  readonly at: number
  readonly node: number
  readonly user: number
  readonly op: CallerOp
  /** Gives up after so many milliseconds. */
  readonly deadline?: number | undefined
}

export type StorageOp = "find" | "claim" | "spend" | "commit" | "fail" | "connect" | "update" | "disconnect"
export type CalOp = "refresh" | "reissue"

/** When something happens to a node: at an instant, or around its nth message of a kind. */
export type Trigger =
  | { readonly on: "time"; readonly at: number }
  | {
      /** The message has left, has been executed on the other side, or its answer is about to arrive. */
      readonly on: "sent" | "executed" | "answered"
      readonly op: StorageOp | CalOp
      readonly nth: number
    }

/** What can happen to one call to Cal.com. */
export type CalFault =
  | "refused"
  | "dropBefore"
  | "dropAfter"
  | "silentBefore"
  | "silentAfter"
  | "slowBefore"
  | "slowAfter"
  | "status429"
  | "status500"
  | "status500Committed"
  | "status503"
  | "garbage"
  | "truncated"

/** What can happen to one call to the storage. `zombie`: executed after the caller was told that it failed. */
export type StorageFault = "refused" | "silentBefore" | "silentAfter" | "dropAfter" | "slow" | "zombie"

export type Incident =
  | { readonly kind: "crash"; readonly node: number; readonly trigger: Trigger; readonly restartAfter: number }
  | { readonly kind: "pause"; readonly node: number; readonly trigger: Trigger; readonly millis: number }
  | { readonly kind: "stop"; readonly node: number; readonly at: number; readonly restartAfter: number }
  | { readonly kind: "cal"; readonly fault: CalFault; readonly nth: number; readonly millis: number }
  | { readonly kind: "calDown"; readonly at: number; readonly millis: number; readonly fault: CalFault }
  | {
      readonly kind: "storage"
      readonly fault: StorageFault
      readonly op: StorageOp
      readonly nth: number
      readonly millis: number
    }
  | { readonly kind: "storageDown"; readonly at: number; readonly millis: number; readonly fault: StorageFault }
  | { readonly kind: "wrongSecret"; readonly at: number; readonly millis: number }
  /** Access tokens die at Cal.com before their time. */
  | { readonly kind: "accessDies"; readonly at: number; readonly user: number }
  /** Cal.com refuses every access token of every user. */
  | { readonly kind: "accessRefused"; readonly at: number; readonly millis: number }
  | { readonly kind: "revoked"; readonly at: number; readonly user: number }
  | { readonly kind: "userDeleted"; readonly at: number; readonly user: number }

export interface Plan {
  readonly seed: number
  /** Through CalClient, HTTP and the sandbox, or the short way that says the same. */
  readonly wire: "http" | "short"
  /** Each node's clock error in milliseconds. */
  readonly nodes: ReadonlyArray<number>
  readonly users: ReadonlyArray<"managed" | "oauth2">
  /** Of access tokens, in milliseconds. */
  readonly lifetime: number
  /** Until when callers come and incidents happen. */
  readonly activeFor: number
  /** Between Cal.com's check of a refresh token and its rotation. */
  readonly raceWindow: number
  /** One way to the storage, and to Cal.com, at most. */
  readonly latency: { readonly storage: number; readonly cal: number }
  /** What nodes hear of each other: the share that is lost, and how long the rest takes at most. */
  readonly notices: { readonly lost: number; readonly latency: number }
  readonly shuffles: boolean
  readonly yieldAfter: number
  readonly callers: ReadonlyArray<Caller>
  readonly incidents: ReadonlyArray<Incident>
}

export interface Limits {
  readonly nodes?: number | undefined
  readonly wire?: "http" | "short" | undefined
  /** Share of histories without any incident, and of those through HTTP. */
  readonly calm?: number | undefined
  readonly http?: number | undefined
}

const second = 1000

const calFaults: ReadonlyArray<CalFault> = [
  "refused",
  "dropBefore",
  "dropAfter",
  "silentBefore",
  "silentAfter",
  "slowBefore",
  "slowAfter",
  "slowAfter",
  "status429",
  "status500",
  "status500Committed",
  "status503",
  "garbage",
  "truncated"
]
const outages: ReadonlyArray<CalFault> = [
  "refused",
  "dropBefore",
  "silentBefore",
  "status429",
  "status500",
  "status503"
]
const storageFaults: ReadonlyArray<StorageFault> = [
  "refused",
  "silentBefore",
  "silentAfter",
  "dropAfter",
  "dropAfter",
  "slow",
  "zombie"
]
const protocolOps: ReadonlyArray<StorageOp> = ["claim", "spend", "commit", "commit", "fail", "find", "connect"]

export const draw = (seed: number, limits: Limits = {}): Plan => {
  const prng = Prng.make(seed, "plan")
  const nodeCount = Math.min(limits.nodes ?? 4, prng.pick([1, 2, 2, 2, 3, 3, 4]))
  const nodes = Array.from({ length: nodeCount }, () => (prng.chance(0.3) ? prng.int(-120, 120) * second : 0))
  const users = Array.from({ length: prng.pick([1, 1, 1, 2, 3]) }, () =>
    prng.chance(0.5) ? ("managed" as const) : ("oauth2" as const)
  )
  const lifetime = prng.pick([60, 90, 120, 300, 600]) * second
  const activeFor = Math.round(lifetime * (0.6 + prng.next()))
  const calm = prng.chance(limits.calm ?? 0.15)

  /** Mostly around the moments at which tokens become due or expire. */
  const instant = (): number => {
    if (prng.chance(0.3)) return prng.int(0, activeFor)
    const due = lifetime - prng.pick([0, 0, 0.1, 0.25]) * Math.min(lifetime, 600 * second)
    return Math.max(0, Math.min(activeFor, Math.round(due) + prng.int(-2, 20) * prng.pick([100, 500, second])))
  }
  const node = () => prng.int(0, nodeCount - 1)
  const user = () => prng.int(0, users.length - 1)

  const callers: Array<Caller> = []
  const bursts = prng.int(2, 6)
  for (let i = 0; i < bursts; i++) {
    const at = instant()
    const who = user()
    const op = pickOp(prng, calm, users[who] ?? "managed")
    const many = op === "connect" || op === "update" || op === "disconnect" ? 1 : prng.pick([1, 1, 2, 3, 5])
    for (let j = 0; j < many; j++) {
      const deadline = prng.chance(0.2) ? prng.pick([0, 5, 20, 100, 1000, 6000]) : undefined
      callers.push({ at: at + prng.pick([0, 0, 1, 5, 300]) * j, node: node(), user: who, op, deadline })
    }
  }

  // A user of whom everybody wants something for a while.
  if (prng.chance(0.12)) {
    const from = instant()
    const who = user()
    const op = prng.pick(["ensure", "ensure", "force", "api"] as const)
    const step = prng.pick([300, second, 2 * second])
    for (let i = 0; i < 16; i++) callers.push({ at: from + i * step, node: node(), user: who, op })
  }

  const incidents: Array<Incident> = []
  // A node sleeps in the middle of an attempt, longer than its lease, and others go on.
  if (!calm && nodeCount > 1 && prng.chance(0.25)) {
    const from = lifetime + prng.int(0, 5) * second
    const who = user()
    const sleeper = node()
    const on = prng.pick(["sent", "executed", "answered"] as const)
    const op = prng.pick(["claim", "refresh", "refresh", "reissue", "spend", "commit", "fail"] as const)
    const trigger: Trigger = { on, op, nth: prng.pick([1, 1, 2]) }
    const millis = prng.int(28, 50) * second
    incidents.push({ kind: "pause", node: sleeper, trigger, millis })
    callers.push({ at: from, node: sleeper, user: who, op: "ensure" })
    const others = prng.int(1, 4)
    for (let i = 0; i < others; i++) {
      const op = prng.pick(["ensure", "ensure", "ensure", "force", "connect"] as const)
      callers.push({ at: from + prng.int(100, 60_000), node: node(), user: who, op })
    }
  }
  // A person reconnects while a refresh is under way, and the new pair is refreshed before that one ends.
  if (!calm && prng.chance(0.12)) {
    const from = lifetime + prng.int(0, 5) * second
    const who = user()
    const millis = prng.pick([second, 3 * second, 6 * second, 7500])
    incidents.push({ kind: "cal", fault: prng.pick(["slowBefore", "slowAfter"]), nth: prng.pick([1, 1, 2]), millis })
    const connectAt = from + prng.int(20, 3000)
    callers.push({ at: from, node: node(), user: who, op: "ensure" })
    callers.push({ at: connectAt, node: node(), user: who, op: prng.pick(["connect", "connect", "update"]) })
    callers.push({ at: connectAt + prng.int(20, 3000), node: node(), user: who, op: "force" })
  }
  const count = calm ? 0 : prng.pick([1, 1, 2, 2, 3, 4, 6])
  for (let i = 0; i < count; i++) incidents.push(drawIncident(prng, { instant, node, user }))

  return {
    seed,
    wire: limits.wire ?? (prng.chance(limits.http ?? 0.25) ? "http" : "short"),
    nodes,
    users,
    lifetime,
    activeFor: Math.max(activeFor, ...callers.map(({ at }) => at + second)),
    raceWindow: !calm && prng.chance(0.25) ? prng.pick([5, 50, 500, 3000]) : 0,
    latency: { storage: prng.pick([2, 5, 5, 50, 400]), cal: prng.pick([5, 30, 200, 1500]) },
    notices: prng.pick([
      { lost: 1, latency: 0 },
      { lost: 0, latency: 3 },
      { lost: 0.3, latency: 50 },
      { lost: 0.3, latency: 8000 }
    ]),
    shuffles: prng.chance(0.5),
    yieldAfter: prng.pick([2048, 2048, 200, 30]),
    callers: callers.sort((a, b) => a.at - b.at),
    incidents
  }
}

const pickOp = (prng: Prng.Prng, calm: boolean, kind: "managed" | "oauth2"): CallerOp => {
  if (prng.chance(0.55)) return "ensure"
  const op = prng.pick<CallerOp>([
    "force",
    "force",
    "api",
    "api",
    "api",
    "info",
    ...(calm ? [] : (["connect", "connect", "update", "disconnect", "reissue"] as const))
  ])
  return op === "reissue" && kind === "oauth2" ? "force" : op
}

const drawIncident = (
  prng: Prng.Prng,
  draw: { readonly instant: () => number; readonly node: () => number; readonly user: () => number }
): Incident => {
  const trigger = (): Trigger => {
    if (prng.chance(0.2)) return { on: "time", at: draw.instant() }
    const isCal = prng.chance(0.5)
    return {
      on: prng.pick(["sent", "executed", "answered"] as const),
      op: isCal ? prng.pick(["refresh", "refresh", "refresh", "reissue"] as const) : prng.pick(protocolOps),
      nth: prng.pick([1, 1, 1, 2, 2, 3])
    }
  }
  const restartAfter = () => prng.pick([0, 100, second, 10 * second, 40 * second])
  const at = draw.instant()
  switch (prng.int(0, 19)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return { kind: "crash", node: draw.node(), trigger: trigger(), restartAfter: restartAfter() }
    case 4:
    case 5:
    case 6: {
      const millis = prng.pick([
        100,
        second,
        6 * second,
        12 * second,
        25 * second,
        35 * second,
        45 * second,
        100 * second
      ])
      return { kind: "pause", node: draw.node(), trigger: trigger(), millis: millis + prng.int(0, 500) }
    }
    case 7:
      return { kind: "stop", node: draw.node(), at, restartAfter: restartAfter() }
    case 8:
    case 9:
    case 10:
    case 11: {
      const millis = prng.pick([
        second,
        7900,
        8100,
        10 * second,
        13 * second,
        20 * second,
        31 * second,
        37 * second,
        45 * second
      ])
      return { kind: "cal", fault: prng.pick(calFaults), nth: prng.pick([1, 1, 2, 2, 3, 4]), millis }
    }
    case 12:
      return { kind: "calDown", at, millis: prng.int(1, 90) * second, fault: prng.pick(outages) }
    case 13:
    case 14:
    case 15: {
      const millis = prng.pick([second, 4 * second, 4900, 10 * second, 40 * second])
      const op = prng.pick(protocolOps)
      return { kind: "storage", fault: prng.pick(storageFaults), op, nth: prng.pick([1, 1, 2, 2, 3]), millis }
    }
    case 16: {
      const fault = prng.pick<StorageFault>(["refused", "silentBefore", "silentAfter", "dropAfter", "slow"])
      return { kind: "storageDown", at, millis: prng.int(1, 60) * second, fault }
    }
    case 17:
      return { kind: "wrongSecret", at, millis: prng.int(1, 90) * second }
    case 18:
      return prng.chance(0.7)
        ? { kind: "accessDies", at, user: draw.user() }
        : { kind: "accessRefused", at, millis: prng.int(1, 90) * second }
    default:
      return prng.chance(0.7)
        ? { kind: "revoked", at, user: draw.user() }
        : { kind: "userDeleted", at, user: draw.user() }
  }
}
