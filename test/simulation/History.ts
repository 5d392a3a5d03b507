/** Runs one plan to its end and says what was wrong with it. */
import { Cause, Duration, Exit, Option, Redacted, Schema } from "effect"
import * as Schedule from "../../src/CalTokens/Schedule.js"
import { UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { retryAfter, type TokenError } from "../../src/TokenError.js"
import type { TokenStorage } from "../../src/TokenStorage.js"
import * as Memory from "../../src/TokenStorage/Memory.js"
import type { Authorised, Cal } from "./Cal.js"
import * as Callers from "./Callers.js"
import { Fleet, type Variant } from "./Fleet.js"
import * as HttpCal from "./HttpCal.js"
import { Judge, type OpenCall } from "./Judge.js"
import type { Violation } from "./Oracle.js"
import type { Caller, Incident, Plan } from "./Plan.js"
import * as Prng from "./Prng.js"
import * as ShortCal from "./ShortCal.js"
import { epoch, type Node, type Stats, World } from "./World.js"

export interface Result {
  readonly plan: Plan
  readonly violations: ReadonlyArray<Violation>
  readonly log: ReadonlyArray<string>
}

const ulids = Array.from({ length: 16 }, (_, index) =>
  Schema.decodeSync(UserUlid)(`01ARZ3NDEKTSV4RRFFQ69G${String(index).padStart(4, "0")}`)
)

/** After the mishaps: when callers still come, and how long it takes, in milliseconds. */
const graceCalls = [1000, 35_000, 70_000, 140_000]
const grace = 200_000
/** Tries to bring every user to a good end. */
const settleTries = 8
/** The same while Cal.com's answers are not understood, and a token still serves. */
const patientTries = 150

export const run = (plan: Plan, stats: Stats, variant: Variant = {}, traces = false): Result => {
  const history = new History(plan, stats, variant, traces)
  try {
    history.play()
  } catch (error) {
    history.world.oracle.report("no crash", error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
  history.world.driver.end()
  return { plan, violations: history.world.oracle.violations, log: history.world.log }
}

class History {
  readonly world: World
  private readonly cal: Cal
  private readonly storage: TokenStorage["Type"]
  private readonly users: ReadonlyArray<Callers.User>
  private readonly fleet: Fleet
  private readonly judge: Judge
  private readonly prng: Prng.Prng
  private readonly openCalls = new Set<OpenCall>()
  private isJudged = true

  constructor(
    private readonly plan: Plan,
    stats: Stats,
    private readonly variant: Variant,
    traces: boolean
  ) {
    const config = { ...TokenConfig.defaults, memoryMaxEntries: 16, ...variant.config }
    this.world = new World(plan, stats, traces, TokenConfig.defaults)
    this.prng = Prng.make(plan.seed, "settle")
    const make = plan.wire === "http" ? HttpCal.make : ShortCal.make
    this.cal = make(this.world, Duration.toMillis(TokenConfig.defaults.lateAnswerWait))
    const memory = Memory.make()
    this.storage = variant.storage?.(memory) ?? memory
    this.judge = new Judge(this.world, this.cal, this.storage, config)
    this.users = plan.users.map((kind, index): Callers.User => {
      const account = this.cal.createAccount(kind)
      const userUlid = ulids[index]
      if (userUlid === undefined) throw new Error("too many users")
      return {
        index,
        userUlid,
        kind,
        movedAt: 0,
        account,
        accounts: new Set([account]),
        revoked: new Set(),
        elsewhere: []
      }
    })
    this.world.onConnected = (userUlid, { _tag, calUserId }) => {
      const user = this.users.find((each) => each.userUlid === userUlid)
      if (user === undefined || calUserId === undefined || calUserId === user.account) return
      user.account = calUserId
      user.kind = _tag === "ManagedUser" ? "managed" : "oauth2"
      user.movedAt = this.world.driver.now
    }
    this.world.onIncident = (incident) => this.happen(incident)
    this.fleet = new Fleet(this.world, this.cal, this.storage, config, variant)
  }

  play(): void {
    const { driver } = this.world
    for (const user of this.users) {
      const pair = this.plan.elsewhere.includes(user.index) ? this.cal.authorise(user.account) : this.handIn(user)
      this.keepElsewhere(user, pair, "person")
    }
    for (const caller of this.plan.callers) driver.at(epoch + caller.at, undefined, () => this.callAt(caller))
    for (const incident of this.plan.incidents) this.schedule(incident)
    for (const skew of this.plan.nodes) if (skew !== 0) this.world.count("fault", "clock is off")
    if (this.plan.raceWindow > 0) this.world.count("fault", "Cal.com rotates in two steps")
    driver.run(epoch + this.plan.activeFor, this.observe)
    this.heal()
    const healedAt = driver.now
    for (const millis of graceCalls) {
      driver.at(healedAt + millis, undefined, () => {
        for (const user of this.users) this.callAt({ at: 0, node: this.anyNode(), user: user.index, op: "ensure" })
      })
    }
    driver.run(healedAt + grace, this.observe)
    this.expectQuiet("after the grace period")
    const held = this.users.filter((user) => this.settle(user) === "held")
    // What another user's trial has opened since, if one did.
    const stillHeld = new Set(held.filter((user) => this.settle(user) === "held"))
    driver.run(driver.now + 60_000, this.observe)
    this.expectQuiet("at the end")
    // What came of a token is not asked of Cal.com while its answers are not understood and another token serves.
    for (const user of this.users) if (!stillHeld.has(user)) this.judge.closed(user)
  }

  /** After every step: when nothing is under way, every pair must be where it belongs. */
  private readonly observe = (): boolean => {
    if (!this.world.driver.isQuiet) this.isJudged = false
    else if (!this.isJudged) {
      this.isJudged = true
      for (const user of this.users) this.judge.quiet(user)
    }
    return this.world.oracle.violations.length > 0
  }

  private expectQuiet(when: string): void {
    const { driver, nodes, oracle } = this.world
    for (const { op, process, user } of this.openCalls) {
      if (process.isAlive) oracle.report("quiet", `${op} user${user.index} has no end ${when}`)
    }
    if (!driver.isQuiet) oracle.report("quiet", `${driver.pending} timers or messages are left ${when}`)
    for (const { name, process } of nodes) {
      if (process !== undefined && process.running > 0) {
        oracle.report("quiet", `${name} has ${process.running} fibers running ${when}`)
      }
    }
    this.isJudged = false
    this.observe()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // What goes wrong
  // -------------------------------------------------------------------------------------------------------------------

  private schedule(incident: Incident): void {
    const at = (millis: number, run: () => void) => this.world.driver.at(epoch + millis, undefined, run)
    switch (incident.kind) {
      case "crash":
      case "pause":
        if (incident.trigger.on === "time") at(incident.trigger.at, () => this.happen(incident))
        return
      case "wrongSecret":
        this.world.count("fault", incident.kind)
        at(incident.at, () => this.cal.setSecretRejected(this.world.isHappening("wrongSecret")))
        at(incident.at + incident.millis, () => this.cal.setSecretRejected(this.world.isHappening("wrongSecret")))
        return
      case "secretRevoked":
        this.world.count("fault", incident.kind)
        at(incident.at, () => {
          this.world.note("Cal.com", `revokes the client's ${incident.which === 0 ? "first" : "second"} secret`)
          this.cal.revokeSecret(incident.which)
        })
        return
      case "release":
      case "stop":
      case "accessDies":
      case "revoked":
      case "userDeleted":
      case "refreshedElsewhere":
        at(incident.at, () => this.happen(incident))
        return
      case "accessRefused":
      case "calDown":
      case "drift":
      case "storageDown":
      case "wrongNode":
        return this.world.count("fault", incident.kind)
      case "cal":
      case "storage":
        return
    }
  }

  private happen(incident: Incident): void {
    const { cal, fleet, world } = this
    const node = "node" in incident ? world.nodes[incident.node] : undefined
    const user = "user" in incident ? this.users[incident.user] : undefined
    if (world.healed || (node === undefined && user === undefined)) return
    if (node !== undefined && node.process === undefined) return
    world.count("fault", incident.kind)
    if (node?.process !== undefined) {
      if (incident.kind === "crash") {
        world.note(node.name, "CRASHES")
        fleet.down(node, incident.restartAfter)
      }
      if (incident.kind === "pause") {
        world.note(node.name, `SLEEPS for ${incident.millis} ms`)
        node.process.pause(incident.millis)
      }
      if (incident.kind === "stop") fleet.stop(node, incident.restartAfter)
      if (incident.kind === "release") fleet.release(node, incident.restartAfter)
    }
    if (user === undefined) return
    if (incident.kind === "refreshedElsewhere") return this.refreshElsewhere(user)
    world.note("Cal.com", `${incident.kind} user${user.index}`)
    if (incident.kind === "accessDies") cal.killAccess(user.account)
    if (incident.kind === "revoked") cal.revoke(user.account)
    if (incident.kind === "userDeleted") cal.deleteAccount(user.account)
    if (incident.kind !== "accessDies") user.revoked.add(user.account)
  }

  /** The second system notices an expiry, or is asked to. Its answers are never lost. */
  private refreshElsewhere(user: Callers.User): void {
    const token = user.elsewhere.at(-1)?.refreshToken
    if (token === undefined) return
    this.cal.refreshElsewhere(token, (pair) => {
      this.world.note("elsewhere", `user${user.index} is refreshed${pair === undefined ? ", in vain" : ""}`)
      if (pair !== undefined) this.keepElsewhere(user, pair, "elsewhere")
    })
  }

  /** The second system has this pair from now on, alone or beside the fleet. */
  private keepElsewhere(user: Callers.User, pair: Authorised, origin: "person" | "elsewhere"): void {
    const { account, state } = pair.grant
    const [first] = user.elsewhere
    user.elsewhere.push({ ...pair, connection: first?.connection ?? Callers.connectionOf({ ...user, account }) })
    if (state === "flying") this.world.oracle.elsewhere(pair.grant, origin)
  }

  /** From here on everything works; what is down comes up. */
  private heal(): void {
    this.world.healed = true
    this.world.note("plan", "from here on nothing goes wrong")
    this.cal.setSecretRejected(false)
    // What Cal.com says from now on has to be understood in the end.
    const isForGood = this.plan.incidents.some((incident) => incident.kind === "drift" && incident.isForGood)
    for (const node of this.world.nodes) {
      if (isForGood && !node.isNewer) this.fleet.release(node, 0)
      if (node.hasWrongSecret) this.fleet.stop(node, 0)
      this.fleet.start(node)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Callers
  // -------------------------------------------------------------------------------------------------------------------

  /** A pair comes from outside, past the nodes: the first one, or that of a person who reconnects in the end. */
  private handIn(user: Callers.User): Authorised {
    const { cal, world } = this
    if (!cal.hasAccount(user.account)) {
      user.account = cal.createAccount(user.kind)
      user.accounts.add(user.account)
    }
    const authorised = cal.authorise(user.account)
    const { accessToken, expiresAt, grant, refreshToken } = authorised
    const connection = Callers.connectionOf(user)
    const pair = {
      accessToken: Redacted.make(accessToken),
      refreshToken: Redacted.make(refreshToken),
      accessTokenExpiresAt: expiresAt,
      issuedAt: Math.floor(world.driver.now / 1000) * 1000
    }
    const schedule = {
      ...Schedule.of(TokenConfig.defaults, user.userUlid, connection, pair, world.driver.now),
      usedAt: world.driver.now
    }
    const exit = world.runSync(this.storage.connect({ userUlid: user.userUlid, connection, pair, schedule }))
    if (Exit.isFailure(exit)) throw new Error(Cause.pretty(exit.cause))
    world.note("person", `hands in ${grant.name} of user${user.index}, v${exit.value.version}`)
    world.oracle.stored(grant.hash, exit.value.version)
    world.oracle.versioned(user.userUlid, exit.value.version)
    world.oracle.handedIn(user.userUlid, grant.hash)
    world.oracle.cameOtherwise(user.userUlid, true)
    world.oracle.unsealed(user.userUlid)
    world.announce(user.userUlid, exit.value.version)
    user.revoked.delete(user.account)
    return authorised
  }

  private anyNode(): number {
    return this.prng.int(0, this.plan.nodes.length - 1)
  }

  /** The node asked, or another one if that is down. */
  private nodeFor(index: number): Node | undefined {
    const { nodes } = this.world
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[(index + i) % nodes.length]
      if (node?.tokens !== undefined) return node
    }
    return undefined
  }

  private callAt(caller: Caller, then?: (exit: Exit.Exit<Callers.Outcome, TokenError>) => void): void {
    const { judge, world } = this
    const node = this.nodeFor(caller.node)
    const user = this.users[caller.user]
    if (node?.process === undefined || user === undefined) return world.count("fault", "no node to call")
    const { process } = node
    const name = `${caller.op} user${user.index}`
    const call: OpenCall = {
      node,
      process,
      user,
      op: caller.op,
      startedAt: world.driver.now,
      awakeAt: process.awake,
      floor: node.seen.get(user.userUlid) ?? 0,
      rejected: new Set(node.rejected),
      interruptedAt: undefined
    }
    this.openCalls.add(call)
    world.note(node.name, `${name}?`)
    const fiber = process.fork(Callers.call({ world, cal: this.cal }, node, user, caller.op), (exit) => {
      this.openCalls.delete(call)
      if (!process.isAlive) return
      const told = Callers.describe(exit)
      world.note(node.name, `${name}: ${told} after ${world.driver.now - call.startedAt} ms`)
      world.count("answer", `${caller.op}: ${told}`)
      judge.ended(call, exit)
      then?.(exit)
    })
    if (caller.deadline === undefined) return
    world.driver.after(caller.deadline, process, () => {
      if (fiber.unsafePoll() !== null) return
      call.interruptedAt = process.awake
      world.note(node.name, `${name}: the caller gives up`)
      world.count("fault", "caller gives up")
      process.interrupt(fiber)
      this.variant.onInterrupted?.(node)
    })
  }

  /**
   * In the end every user has a token that works, with a person's help only where that is unavoidable. Held: it works,
   * and is not refreshed while Cal.com's answers are not understood.
   */
  private settle(user: Callers.User): "held" | undefined {
    const { driver, oracle } = this.world
    let last = "nothing"
    let tries = settleTries
    for (let i = 0; i < tries; i++) {
      let exit: Exit.Exit<Callers.Outcome, TokenError> | undefined
      const node = this.anyNode()
      // Nothing but need is a reason to try a token while Cal.com's answers are not understood.
      const op = last === "CalProtocolError" ? "ensure" : "force"
      this.callAt({ at: 0, node, user: user.index, op }, (result) => {
        exit = result
      })
      driver.run(driver.now + 60_000, () => this.observe() || exit !== undefined)
      if (exit === undefined) return void oracle.report("quiet", `nobody answers for user${user.index}`)
      let pause: Option.Option<Duration.Duration> = Option.none()
      if (Exit.isSuccess(exit)) {
        const token = exit.value._tag === "Token" ? Redacted.value(exit.value.token.accessToken) : ""
        if (this.cal.api(token) === 200) return op === "ensure" ? "held" : undefined
        if (op === "force") {
          return void oracle.report("recovery", `user${user.index} ends with a token that Cal.com refuses`)
        }
      } else {
        const error = Option.getOrUndefined(Cause.failureOption(exit.cause))
        last = error?._tag ?? "a defect"
        if (error === undefined) break
        if (last === "CalProtocolError") tries = patientTries
        // Where nobody reads what Cal.com answered, only a person can help who knows nothing of it.
        const isStuck = error._tag === "CalProtocolError" && i > 1 && this.judge.sealed(user).length > 0
        if (isStuck && this.nodeFor(node)?.isNewer === true && oracle.isSealed(user.userUlid)) {
          return void oracle.report("newer program", `user${user.index} is not helped by the pair in a sealed answer`)
        }
        if (error._tag === "ReauthorizationRequired" || error._tag === "TokensNotFound" || isStuck) {
          this.world.count("call", "a person reconnects in the end")
          this.handIn(user)
        }
        pause = retryAfter(error)
      }
      const millis = Duration.toMillis(Option.getOrElse(pause, () => Duration.seconds(5)))
      driver.run(driver.now + millis + 10, this.observe)
    }
    return void oracle.report("recovery", `user${user.index} does not recover: ${last}`)
  }
}
