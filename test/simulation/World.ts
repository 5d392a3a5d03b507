/** What the parts of one history share: the machine, the plan's mishaps, the counters and the record. */
import { Duration, type Effect, type Exit, Runtime } from "effect"
import type * as CalApi from "../../src/CalApi.js"
import type * as CalTokens from "../../src/CalTokens.js"
import type { Connection, UserUlid } from "../../src/Token.js"
import type { Options } from "../../src/TokenConfig.js"
import { Notice } from "../../src/TokenStorage.js"
import { Circuits } from "./Circuits.js"
import { Driver, Process } from "./Driver.js"
import { type Attempt, Oracle } from "./Oracle.js"
import {
  type CalFault,
  type CalOp,
  type Incident,
  isCalm,
  type Odd,
  type Plan,
  type StorageFault,
  type StorageOp,
  type Trigger
} from "./Plan.js"
import * as Prng from "./Prng.js"

/** A full minute, like the sandbox's tests. */
export const epoch = Date.UTC(2026, 0, 15, 12, 0, 0)

/** How long a statement may take before its caller is told that the storage is unavailable. */
export const statementTimeout = 5000

/** One server of the fleet. The process changes with each restart. */
export interface Node {
  readonly index: number
  readonly name: string
  process: Process | undefined
  tokens: typeof CalTokens.CalTokens.Service | undefined
  /** An orderly shutdown of this incarnation. */
  close: Effect.Effect<void>
  api: typeof CalApi.CalApi.Service | undefined
  /** Takes what the storage tells of its own accord. */
  hear: (notice: Notice) => void
  isStopping: boolean
  incarnation: number
  /** Another secret than Cal.com knows is configured here. */
  hasWrongSecret: boolean
  /** The client's two secrets are configured here, not the first one alone. */
  hasBothSecrets: boolean
  /** Of a client as this process has it. */
  fingerprint: (clientId: string) => string
  /** Its program reads what ours cannot; the next one's will. */
  isNewer: boolean
  isNewerNext: boolean
  /** Incarnation-wide knowledge, for the checks. */
  attempts: Map<string, Attempt>
  /** By user: the managed account that was to be reissued, if any was, and the one that was claimed. */
  claims: Map<string, { readonly asked: number | undefined; readonly claimed: number | undefined }>
  seen: Map<UserUlid, number>
  rejected: Set<string>
  /** How wrong its idea of Cal.com's time may be at most, in milliseconds. */
  clockError: number
  lastStorageFailure: number
  readonly counts: Map<string, number>
}

/** What went wrong by plan, what was asked of Cal.com, and what callers were told. */
export type Kind = "fault" | "call" | "answer"

export interface Stats {
  /** How often what happened, by its kind and its name. */
  readonly events: Map<string, number>
}

/** What happens to one call to Cal.com. */
export interface Mishap {
  readonly fault: CalFault
  readonly millis: number
  readonly odd?: Odd | undefined
}

export class World {
  readonly driver: Driver
  readonly server: Process
  readonly oracle: Oracle
  readonly circuits: Circuits
  readonly latency: Prng.Prng
  private readonly gossip: Prng.Prng
  readonly nodes: Array<Node> = []
  readonly log: Array<string> = []
  /** From here on nothing goes wrong any more. */
  healed = false
  private readonly counts = new Map<string, number>()
  /** Incidents of the plan that wait for a message. */
  private armed: Array<Extract<Incident, { kind: "crash" | "pause" }>>
  onIncident: (incident: Incident) => void = () => undefined
  /** The storage took a connection. */
  onConnected: (userUlid: UserUlid, connection: Connection) => void = () => undefined

  constructor(
    readonly plan: Plan,
    readonly stats: Stats,
    readonly traces: boolean,
    { callTimeout, probeDelayExpired }: Options
  ) {
    this.driver = new Driver(epoch, Prng.make(plan.seed, "driver"), plan.shuffles, plan.yieldAfter)
    this.gossip = Prng.make(plan.seed, "notices")
    this.latency = Prng.make(plan.seed, "latency")
    this.server = new Process(this.driver, "Cal.com", plan.seed, 0)
    this.oracle = new Oracle(
      this.driver,
      epoch,
      Duration.toMillis(probeDelayExpired),
      Duration.toMillis(callTimeout),
      isCalm(plan)
    )
    this.circuits = new Circuits((rule, detail) => this.oracle.report(rule, detail))
    this.armed = plan.incidents.filter(
      (incident): incident is Extract<Incident, { kind: "crash" | "pause" }> =>
        (incident.kind === "crash" || incident.kind === "pause") && incident.trigger.on !== "time"
    )
  }

  /** Milliseconds since the start. */
  get elapsed(): number {
    return this.driver.now - epoch
  }

  note(who: string, what: string): void {
    if (this.traces) this.log.push(`${(this.elapsed / 1000).toFixed(3).padStart(9)}  ${who.padEnd(8)} ${what}`)
  }

  count(kind: Kind, name: string): void {
    const event = `${kind} ${name}`
    this.stats.events.set(event, (this.stats.events.get(event) ?? 0) + 1)
  }

  /** One way, in milliseconds. */
  delay(most: number): number {
    return this.latency.chance(0.2) ? 0 : this.latency.int(1, Math.max(1, most))
  }

  /** A row was written: whoever listens may hear of it, late, twice, or not at all. */
  announce(userUlid: UserUlid, version: number | undefined): void {
    const { latency, lost } = this.plan.notices
    if (lost === 1) return
    for (const node of this.nodes) {
      const { process } = node
      if (process === undefined) continue
      for (let times = this.gossip.chance(0.1) ? 2 : 1; times > 0; times--) {
        if (this.gossip.chance(lost)) {
          this.count("fault", "notice lost")
          continue
        }
        const notice = this.gossip.chance(0.05) ? Notice.Missed() : Notice.Written({ userUlid, version })
        this.driver.after(this.gossip.int(0, latency), process, () => node.hear(notice))
      }
    }
  }

  runSync<A, E>(effect: Effect.Effect<A, E>): Exit.Exit<A, E> {
    return Runtime.runSyncExit(this.server.runtime)(effect)
  }

  /** A number that was not given out yet. */
  next(): number {
    return this.nth("number")
  }

  private nth(key: string): number {
    const n = (this.counts.get(key) ?? 0) + 1
    this.counts.set(key, n)
    return n
  }

  /** The mishap of the next call to Cal.com, if it has one. */
  calFault(kind: "managed" | "oauth2"): Mishap | undefined {
    const n = this.nth("cal")
    const drift = this.drift(kind)
    if (this.healed) return drift
    for (const incident of this.plan.incidents) {
      if (incident.kind === "cal" && incident.nth === n) return incident
      if (incident.kind === "calDown" && this.isDuring(incident)) return { fault: incident.fault, millis: 0 }
    }
    return drift
  }

  /** How Cal.com's answers look by now, if not as ever. */
  private drift(kind: "managed" | "oauth2"): Mishap | undefined {
    const drift = this.plan.incidents.find(
      (incident): incident is Extract<Incident, { kind: "drift" }> =>
        incident.kind === "drift" &&
        (incident.client === "both" || incident.client === kind) &&
        (this.isDuring(incident) || (incident.isForGood && this.elapsed >= incident.at))
    )
    return drift && { fault: "odd", millis: 0, odd: { answer: drift.answer, isDone: true } }
  }

  storageFault(op: StorageOp): { readonly fault: StorageFault; readonly millis: number } | undefined {
    const n = this.nth(op)
    if (this.healed) return undefined
    for (const incident of this.plan.incidents) {
      if (incident.kind === "storage" && incident.op === op && incident.nth === n) return incident
      if (incident.kind === "storageDown" && this.isDuring(incident)) return { fault: incident.fault, millis: 4000 }
    }
    return undefined
  }

  isDuring({ at, millis }: { readonly at: number; readonly millis: number }): boolean {
    return !this.healed && this.elapsed >= at && this.elapsed < at + millis
  }

  isHappening(kind: "wrongSecret" | "accessRefused"): boolean {
    return this.plan.incidents.some((incident) => incident.kind === kind && this.isDuring(incident))
  }

  /** A message of a node is at this point: whatever was planned for it happens now. */
  reach(node: Node, on: Exclude<Trigger["on"], "time">, op: StorageOp | CalOp): void {
    if (this.armed.length === 0 || this.healed) return
    const key = `${on} ${op}`
    const n = (node.counts.get(key) ?? 0) + 1
    node.counts.set(key, n)
    for (const incident of this.armed) {
      const { trigger } = incident
      if (incident.node !== node.index || trigger.on !== on || trigger.op !== op || trigger.nth !== n) continue
      this.armed = this.armed.filter((other) => other !== incident)
      // Not from within the node's own step.
      if (on === "sent") this.driver.at(this.driver.now, undefined, () => this.onIncident(incident))
      else this.onIncident(incident)
    }
  }
}
