/**
 * A history before it happens: who calls what when, and what goes wrong. A plan is data, so that a failing one can be
 * printed, made smaller, and run again.
 */
import type * as Answers from "./Answers.js"
import * as Prng from "./Prng.js"

export type CallerOp =
  | "ensure"
  | "force"
  | "reissue"
  | "api"
  | "connect"
  /** Connects another Cal.com account of that kind. */
  | "moveToManaged"
  | "moveToOAuth2"
  | "update"
  | "disconnect"
  | "info"
  /** Begins what is due, whoever the user is. */
  | "sweep"
  /** Takes over the pair that a second system has, or the one that it had before. */
  | "import"
  | "importOlder"

/** Somebody who asks a node for something. Instants are milliseconds from the start. */
export interface Caller {
  readonly at: number
  readonly node: number
  readonly user: number
  readonly op: CallerOp
  /** Gives up after so many milliseconds. */
  readonly deadline?: number | undefined
}

export type StorageOp = "find" | "claim" | "spend" | "commit" | "fail" | "connect" | "update" | "disconnect" | "import"
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
  /** An answer that the contract does not know. */
  | "odd"

/** What can happen to one call to the storage. `zombie`: executed after the caller was told that it failed. */
export type StorageFault = "refused" | "silentBefore" | "silentAfter" | "dropAfter" | "slow" | "zombie"

/** An odd answer; `isDone`: whether Cal.com did what it was asked to. */
export interface Odd {
  readonly answer: Answers.Name
  readonly isDone: boolean
}

export type Incident =
  | { readonly kind: "crash"; readonly node: number; readonly trigger: Trigger; readonly restartAfter: number }
  | { readonly kind: "pause"; readonly node: number; readonly trigger: Trigger; readonly millis: number }
  | { readonly kind: "stop"; readonly node: number; readonly at: number; readonly restartAfter: number }
  | {
      readonly kind: "cal"
      readonly fault: CalFault
      readonly nth: number
      readonly millis: number
      readonly odd?: Odd | undefined
    }
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
  /** Of the client's two secrets one is revoked, for good. */
  | { readonly kind: "secretRevoked"; readonly at: number; readonly which: 0 | 1 }
  /** One node alone has a wrong secret, until somebody mends that in the end. */
  | { readonly kind: "wrongNode"; readonly node: number }
  /** Cal.com's answers of a kind look otherwise for a while; `isForGood`: and from then on. */
  | {
      readonly kind: "drift"
      readonly at: number
      readonly millis: number
      readonly client: "managed" | "oauth2" | "both"
      readonly answer: Answers.Name
      readonly isForGood: boolean
    }
  /** A node is replaced by one whose program is newer: it reads what ours cannot. */
  | { readonly kind: "release"; readonly node: number; readonly at: number; readonly restartAfter: number }
  /** Access tokens die at Cal.com before their time. */
  | { readonly kind: "accessDies"; readonly at: number; readonly user: number }
  /** Cal.com refuses every access token of every user. */
  | { readonly kind: "accessRefused"; readonly at: number; readonly millis: number }
  | { readonly kind: "revoked"; readonly at: number; readonly user: number }
  | { readonly kind: "userDeleted"; readonly at: number; readonly user: number }
  /** The second system, which has a pair of each user, spends its refresh token. */
  | { readonly kind: "refreshedElsewhere"; readonly at: number; readonly user: number }

export interface Plan {
  readonly seed: number
  /** Through CalClient, HTTP and the sandbox, or the short way that says the same. */
  readonly wire: "http" | "short"
  /** Each node's clock error in milliseconds. */
  readonly nodes: ReadonlyArray<number>
  readonly users: ReadonlyArray<"managed" | "oauth2">
  /** Users whom the second system alone knows at first. */
  readonly elsewhere: ReadonlyArray<number>
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

/** Nothing goes wrong. That one of the client's two secrets is revoked is nothing that anybody notices. */
export const isCalm = ({ incidents, raceWindow }: Plan): boolean =>
  incidents.every(({ kind }) => kind === "secretRevoked") && raceWindow === 0

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
  "odd",
  "odd"
]
const oddAnswers: ReadonlyArray<Answers.Name> = [
  "expiryMissing",
  "expiryMissing",
  "expiryText",
  "expiryIso",
  "expiryZero",
  "expiryNull",
  "nested",
  "flat",
  "otherCase",
  "accessTokenMissing",
  "refreshTokenMissing",
  "refreshTokenKept",
  "otherUser",
  "otherUser",
  "tokensMissing",
  "tokensRenamed",
  "errorBeside",
  "idTokenBeside",
  "gzip",
  "br",
  "deflate",
  "cut",
  "cutAfterRefreshToken",
  "maintenancePage",
  "garbage"
]
/** They come without Cal.com's having done anything as well. */
const pages: ReadonlySet<Answers.Name> = new Set(["maintenancePage", "garbage"])
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
  const calm = prng.chance(limits.calm ?? 0.15)
  const drifts = !calm && prng.chance(0.12)
  const users = Array.from({ length: drifts ? prng.pick([1, 2, 2, 3, 4]) : prng.pick([1, 1, 1, 2, 3]) }, () =>
    prng.chance(drifts ? 0.35 : 0.5) ? ("managed" as const) : ("oauth2" as const)
  )
  const lifetime = prng.pick([60, 90, 120, 300, 600]) * second
  const activeFor = Math.round(lifetime * (0.6 + prng.next()))

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
    const many =
      op.startsWith("moveTo") || op === "connect" || op === "update" || op === "disconnect"
        ? 1
        : prng.pick([1, 1, 2, 3, 5])
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
  // Somebody moves to another account while theirs is reissued, for one who asks or because nothing else helps.
  if (!calm && prng.chance(0.1)) {
    const from = prng.pick([0.5, 1]) * lifetime + prng.int(0, 5) * second
    const who = user()
    const step = prng.pick([5, 50, 500, 2 * second])
    const asks = prng.int(1, 3)
    for (let i = 0; i < asks; i++)
      callers.push({ at: from + prng.int(0, step), node: node(), user: who, op: "reissue" })
    const moves = prng.int(0, 2)
    for (let i = 0; i < moves; i++) {
      const op = prng.pick(["moveToManaged", "moveToOAuth2"] as const)
      callers.push({ at: from + prng.int(0, step), node: node(), user: who, op })
    }
    if (prng.chance(0.5)) incidents.push({ kind: "revoked", at: from - 1, user: who })
    callers.push({ at: from, node: node(), user: who, op: "force" })
    callers.push({ at: from + step, node: node(), user: who, op: prng.pick(["ensure", "reissue"]) })
  }
  if (drifts) drawDrift(prng, { lifetime, node, users: users.length }, callers, incidents)
  if (!calm && nodeCount > 1 && prng.chance(0.06)) incidents.push({ kind: "wrongNode", node: node() })
  const count = calm ? 0 : prng.pick([1, 1, 2, 2, 3, 4, 6])
  for (let i = 0; i < count; i++) incidents.push(drawIncident(prng, { instant, node, user }))

  drawSweeps(Prng.make(seed, "sweeps"), { lifetime, activeFor, nodes: nodeCount }, callers)
  const elsewhere = drawImports(
    Prng.make(seed, "imports"),
    { calm, lifetime, nodes: nodeCount, users: users.length },
    callers,
    incidents
  )

  const wire = limits.wire ?? (prng.chance(limits.http ?? 0.25) ? "http" : "short")
  // The short way knows no secrets.
  if (wire === "http" && prng.chance(0.3)) {
    incidents.push({ kind: "secretRevoked", at: instant(), which: prng.pick([0, 1] as const) })
  }

  return {
    seed,
    wire,
    nodes,
    users,
    elsewhere,
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
    callers: callers.map(withoutRace(callers)).sort((a, b) => a.at - b.at),
    incidents
  }
}

/** An update that meets a move in the storage writes the pair of one account into the row of the other: none does here. */
const withoutRace =
  (callers: ReadonlyArray<Caller>) =>
  (caller: Caller): Caller =>
    caller.op === "update" && callers.some(({ op, user }) => op.startsWith("moveTo") && user === caller.user)
      ? { ...caller, op: "connect" }
      : caller

/** In most fleets every node looks for what is due, over and over; drawn apart, so that a seed keeps the rest of its history. */
const drawSweeps = (
  prng: Prng.Prng,
  fleet: { readonly lifetime: number; readonly activeFor: number; readonly nodes: number },
  callers: Array<Caller>
): void => {
  if (prng.chance(0.35)) return
  const from = prng.pick([0, 0.4, 0.9]) * fleet.lifetime
  const step = prng.pick([second, 2 * second, 2 * second, 10 * second])
  const count = Math.min(40, Math.ceil((fleet.activeFor - from) / step))
  for (let node = 0; node < fleet.nodes; node++) {
    for (let i = 0; i < count; i++) {
      callers.push({ at: Math.round(from + i * step + prng.int(0, step)), node, user: 0, op: "sweep" })
    }
  }
}

/**
 * One user moves over from a second system, which stopped or goes on refreshing: they are imported once or again and again.
 * Drawn apart, too. Answers with those whom nobody here knows before.
 */
const drawImports = (
  prng: Prng.Prng,
  fleet: { readonly calm: boolean; readonly lifetime: number; readonly nodes: number; readonly users: number },
  callers: Array<Caller>,
  incidents: Array<Incident>
): ReadonlyArray<number> => {
  if (prng.chance(0.7)) return []
  const { calm, lifetime } = fleet
  const user = prng.int(0, fleet.users - 1)
  const node = () => prng.int(0, fleet.nodes - 1)
  const from = Math.round(prng.pick([0, 0, 0.4, 0.9, 1]) * lifetime)
  const step = prng.pick([50, 500, 5 * second, 20 * second])
  const imports = prng.pick([1, 2, 3, 5])
  for (let i = 0; i < imports; i++) {
    const at = from + i * step + prng.int(0, step)
    callers.push({ at, node: node(), user, op: !calm && prng.chance(0.25) ? "importOlder" : "import" })
    // Who has just moved is asked for, and refreshed where that is due.
    if (prng.chance(0.5)) {
      const op = calm ? "ensure" : prng.pick(["ensure", "ensure", "force"] as const)
      callers.push({ at: at + prng.pick([0, 20, 500, 3000]), node: node(), user, op })
    }
  }
  if (calm) return []
  const refreshes = prng.pick([0, 0, 1, 1, 2, 3])
  const first = prng.chance(0.5) ? from - prng.int(0, 5) * second : from + prng.int(0, imports * step)
  for (let i = 0; i < refreshes; i++) {
    // No system has two pairs of one second.
    const at = Math.max(2 * second, first) + i * prng.pick([2 * second, 2 * second, 10 * second, lifetime])
    incidents.push({ kind: "refreshedElsewhere", at, user })
    if (prng.chance(0.3)) callers.push({ at: at + prng.pick([0, 5, 500]), node: node(), user, op: "import" })
  }
  if (prng.chance(0.2)) {
    const fault = prng.pick(storageFaults)
    incidents.push({ kind: "storage", fault, op: "import", nth: prng.pick([1, 2]), millis: 4 * second })
  }
  return prng.chance(0.5) ? [user] : []
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
    ...(calm ? [] : (["connect", "connect", "update", "disconnect", "moveToManaged", "moveToOAuth2"] as const)),
    ...(calm ? [] : (["reissue", "reissue"] as const))
  ])
  return op === "reissue" && kind === "oauth2" && prng.chance(0.7) ? "force" : op
}

/** Cal.com's answers change when tokens expire, and somebody may bring a program that knows them. */
const drawDrift = (
  prng: Prng.Prng,
  fleet: { readonly lifetime: number; readonly node: () => number; readonly users: number },
  callers: Array<Caller>,
  incidents: Array<Incident>
): void => {
  const { lifetime, node } = fleet
  const from = lifetime + prng.int(-5, 2) * second
  const answer = prng.pick(["tokensRenamed", "tokensRenamed", "tokensRenamed", "errorBeside", "tokensMissing"] as const)
  incidents.push({
    kind: "drift",
    at: from,
    millis: prng.pick([10, 40, 90, 240, 600]) * second,
    client: prng.pick(["both", "both", "managed", "oauth2"]),
    answer,
    isForGood: answer !== "tokensMissing" && prng.chance(0.4)
  })
  for (let user = 0; user < fleet.users; user++) {
    const at = from + prng.pick([0, second, 3 * second, 20 * second, 40 * second])
    callers.push({ at, node: node(), user, op: prng.pick(["ensure", "ensure", "force"]) })
    for (const later of [35, 65, 130, 250, 400]) {
      if (prng.chance(0.5)) continue
      const at = from + later * second + prng.int(0, 10) * 500
      callers.push({ at, node: node(), user, op: prng.pick(["ensure", "ensure", "ensure", "force", "api"]) })
    }
  }
  if (prng.chance(0.5)) incidents.push({ kind: "revoked", at: from - second, user: prng.int(0, fleet.users - 1) })
  const releases = prng.pick([0, 1, 1, 2])
  for (let i = 0; i < releases; i++) {
    const at = from + prng.pick([-20, 5, 30, 70, 200]) * second
    incidents.push({ kind: "release", node: node(), at, restartAfter: prng.pick([0, second, 10 * second]) })
  }
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
  switch (prng.int(0, 21)) {
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
      const fault = prng.pick(calFaults)
      const nth = prng.pick([1, 1, 2, 2, 3, 4])
      return fault === "odd" ? drawOdd(prng, nth) : { kind: "cal", fault, nth, millis }
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
    case 20:
    case 21:
      return drawOdd(prng, prng.pick([1, 1, 1, 2, 2, 3]))
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

const drawOdd = (prng: Prng.Prng, nth: number): Incident => {
  const answer = prng.pick(oddAnswers)
  return { kind: "cal", fault: "odd", nth, millis: 0, odd: { answer, isDone: !pages.has(answer) || prng.chance(0.5) } }
}
