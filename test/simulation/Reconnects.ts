/**
 * Histories that end with a person who has to reconnect, for a reason that is drawn: what the fleet says is the cause, beside what
 * Cal.com knows. Each has one user, whose tokens are refreshed in good order until then.
 */
import { Cause, Duration, Effect, Exit, Option, Schema } from "effect"
import * as Explain from "../../src/Explain.js"
import type * as Stated from "../../src/History.js"
import { hash, UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as Memory from "../../src/TokenStorage/Memory.js"
import type { Authorised } from "./Cal.js"
import * as Callers from "./Callers.js"
import { Fleet } from "./Fleet.js"
import { Ledger, type Truth } from "./Ledger.js"
import type { Incident, Plan } from "./Plan.js"
import * as Prng from "./Prng.js"
import * as ShortCal from "./ShortCal.js"
import { type Node, World } from "./World.js"

/** What is done to the user. */
export const mishaps: ReadonlyArray<Truth> = [
  "otherSystem",
  "person",
  "answerLost",
  "nodeDied",
  "tooOld",
  "accountDeleted",
  "deadOnArrival"
]

/**
 * What may be said of each. Cal.com forgets a token in the same words for another system and for the person; of one that was
 * handed in and never worked nobody can tell since when it is dead, unless it is refused at once.
 */
const rightOf = (truth: Truth, isUnused: boolean): ReadonlyArray<Stated.Cause> => {
  switch (truth) {
    case "otherSystem":
    case "person":
      return [isUnused ? "lostSinceHandedIn" : "anotherSystemOrPerson"]
    case "answerLost":
      return ["answerLost"]
    case "nodeDied":
      return ["processDied"]
    case "tooOld":
      return ["refreshTokenExpired"]
    case "accountDeleted":
      return ["managedUserGone"]
    case "deadOnArrival":
      return ["deadWhenHandedIn", "lostSinceHandedIn"]
  }
}

export interface Outcome {
  readonly seed: number
  readonly truth: Truth
  readonly stated: Stated.Cause
  readonly isRight: boolean
  readonly lines: ReadonlyArray<string>
}

const second = 1000
const minute = 60 * second

const userUlid = Schema.decodeSync(UserUlid)("01ARZ3NDEKTSV4RRFFQ69G0001")

/** What goes wrong at the `nth` call to Cal.com. */
const incidentsOf = (prng: Prng.Prng, mishap: Truth, nth: number): ReadonlyArray<Incident> => {
  // Once in a while a call gets lost that Cal.com never saw, which tells as little as one whose answer is lost.
  if (prng.chance(0.003)) return [{ kind: "cal", fault: prng.pick(["dropBefore", "silentBefore"]), nth, millis: 0 }]
  // Those tell that nothing was spent.
  if (prng.chance(0.1) && mishap !== "answerLost" && mishap !== "nodeDied") {
    return [{ kind: "cal", fault: prng.pick(["refused", "status429"]), nth, millis: 0 }]
  }
  if (mishap === "answerLost") {
    const fault = prng.pick(["dropAfter", "silentAfter", "status500Committed"] as const)
    return [{ kind: "cal", fault, nth, millis: 0 }]
  }
  if (mishap === "nodeDied") {
    const on = prng.pick(["executed", "answered"] as const)
    const restartAfter = prng.pick([0, second, 10 * second, 90 * second])
    return [{ kind: "crash", node: 0, trigger: { on, op: "refresh", nth }, restartAfter }]
  }
  return []
}

/** Plays one history; `undefined` where nobody had to reconnect after all. */
export const play = (seed: number, wanted?: Truth): Outcome | undefined => {
  const prng = Prng.make(seed, "reconnects")
  const mishap = wanted ?? prng.pick(mishaps)
  const kind = mishap === "accountDeleted" ? "managed" : "oauth2"
  const lifetime = prng.pick([60, 90, 120, 300, 600]) * second
  const isHandedIn = mishap === "deadOnArrival" || prng.chance(0.3)
  /** How often it is refreshed before. */
  const before = mishap === "deadOnArrival" ? 0 : prng.int(0, 4)
  const plan: Plan = {
    seed,
    wire: "short",
    nodes: prng.pick([[0], [0, 0], [0, 45 * second]]),
    users: [kind],
    elsewhere: [],
    lifetime,
    activeFor: 0,
    raceWindow: 0,
    latency: { storage: prng.pick([2, 5, 50]), cal: prng.pick([5, 30, 200, 1500]) },
    notices: prng.pick([
      { lost: 1, latency: 0 },
      { lost: 0, latency: 3 }
    ]),
    shuffles: prng.chance(0.5),
    yieldAfter: 2048,
    callers: [],
    incidents: incidentsOf(prng, mishap, before + 1)
  }
  const world = new World(plan, { events: new Map() }, false, TokenConfig.defaults)
  const ledger = new Ledger()
  const cal = ShortCal.make(world, Duration.toMillis(TokenConfig.defaults.lateAnswerWait), ledger)
  const storage = Memory.make()
  const { driver } = world
  const fleet = new Fleet(world, cal, storage, { ...TokenConfig.defaults, memoryMaxEntries: 16 }, {})
  world.onIncident = (incident) => {
    const node = "node" in incident ? world.nodes[incident.node] : undefined
    if (incident.kind === "crash" && node !== undefined) fleet.down(node, incident.restartAfter)
  }

  /** Lets a node work until it is done, or dead. */
  const at = <A, E>(node: Node | undefined, work: (node: Node) => Effect.Effect<A, E> | undefined) => {
    const effect = node === undefined ? undefined : work(node)
    let exit: Exit.Exit<A, E> | undefined
    if (effect === undefined) driver.run(driver.now + minute, () => false)
    else {
      node?.process?.fork(effect, (done) => {
        exit = done
      })
      driver.run(driver.now + 2 * minute, () => exit !== undefined || node?.process === undefined)
    }
    return exit
  }
  const pass = (millis: number) => driver.run(driver.now + millis, () => false)
  // The refreshes before, and the one that goes wrong, are the first node's.
  const ask = (node: Node | undefined, forceRefresh = false) =>
    at(node, ({ tokens }) => tokens?.ensureValid(userUlid, { forceRefresh }))
  const anyNode = () => world.nodes[prng.int(0, world.nodes.length - 1)]

  const account = cal.createAccount(kind)
  const connection = Callers.connectionOf({ account, kind })
  const inputOf = ({ accessToken, expiresAt, refreshToken }: Authorised, isExpired: boolean) => ({
    accessToken,
    refreshToken,
    accessTokenExpiresAt: isExpired ? driver.now - second : expiresAt
  })
  const spoil = (how: "otherSystem" | "person") =>
    how === "person" ? cal.revoke(account) : cal.spendElsewhere(account)

  const authorised = cal.authorise(account)
  if (mishap === "deadOnArrival") {
    spoil(prng.pick(["otherSystem", "person"]))
    pass(prng.int(1, 60) * second)
  }
  const handedInAt = isHandedIn ? driver.now : undefined
  const input = inputOf(authorised, mishap === "deadOnArrival" && prng.chance(0.7))
  at(world.nodes[0], ({ tokens }) =>
    isHandedIn
      ? tokens?.connect(userUlid, connection, input)
      : tokens?.connectWith(userUlid, Effect.succeed({ connection, pair: input }))
  )
  for (let n = 0; n < before; n++) {
    pass(lifetime + prng.int(0, 30) * minute)
    ask(world.nodes[0])
  }
  switch (mishap) {
    case "otherSystem":
    case "person":
      pass(prng.int(1, 40) * minute)
      spoil(mishap)
      break
    case "accountDeleted":
      cal.deleteAccount(account)
      break
    case "tooOld":
      pass(prng.int(31, 60) * 86_400_000)
      break
    case "answerLost":
    case "nodeDied":
    case "deadOnArrival":
  }
  pass(mishap === "deadOnArrival" && prng.chance(0.5) ? 0 : lifetime + prng.int(1, 5 * 60) * second)
  ask(world.nodes[0], true)
  const stored = () => Option.getOrUndefined(Exit.getOrElse(world.runSync(storage.find(userUlid)), () => Option.none()))
  for (let tries = 0; tries < 12 && stored()?.status._tag === "Active"; tries++) {
    ask(anyNode(), true)
    pass(prng.pick([5, 35, 65]) * second)
  }

  const row = stored()
  const history = Option.getOrUndefined(
    Exit.getOrElse(world.runSync(storage.history(userUlid)), (cause) => {
      throw new Error(Cause.pretty(cause))
    })
  )
  if (row?.status._tag !== "ReauthorizationRequired" || history === undefined) return undefined
  const truth = ledger.truth(
    hash(row.pair.refreshToken),
    cal.hasAccount(account),
    before === 0 ? handedInAt : undefined
  )
  world.driver.end()
  const explanation = Explain.explain(history)
  if (truth === undefined || explanation.cause === undefined) {
    throw new Error(`seed ${seed}: asked to reconnect though Cal.com has ended nothing`)
  }
  return {
    seed,
    truth,
    stated: explanation.cause,
    isRight: rightOf(truth, handedInAt !== undefined && before === 0).includes(explanation.cause),
    lines: Explain.toLines(explanation)
  }
}

export interface Result {
  readonly outcomes: ReadonlyArray<Outcome>
  /** How many of them are explained rightly, from 0 to 1. */
  readonly right: number
  /** The share of the cause that is stated most often. */
  readonly largest: number
}

export const run = (from: number, count: number): Result => {
  const outcomes = Array.from({ length: count }, (_, n) => play(from + n)).filter((outcome) => outcome !== undefined)
  const stated = [...tally(outcomes, ({ stated }) => stated).values()]
  return {
    outcomes,
    right: outcomes.filter(({ isRight }) => isRight).length / Math.max(1, outcomes.length),
    largest: Math.max(0, ...stated) / Math.max(1, outcomes.length)
  }
}

const tally = (outcomes: ReadonlyArray<Outcome>, by: (outcome: Outcome) => string) => {
  const counts = new Map<string, number>()
  for (const outcome of outcomes) counts.set(by(outcome), (counts.get(by(outcome)) ?? 0) + 1)
  return counts
}

/** Rows of what happened, columns of what is stated. */
export const table = ({ outcomes, right }: Result): string => {
  const cells = tally(outcomes, ({ stated, truth }) => `${truth} ${stated}`)
  const columns = [...tally(outcomes, ({ stated }) => stated).keys()].sort()
  const line = (head: string, values: ReadonlyArray<string>) =>
    `  ${head.padEnd(18)}${values.map((value) => value.padStart(23)).join("")}`
  return [
    `Why people had to reconnect: ${outcomes.length} histories, ${(right * 100).toFixed(2)} % explained rightly`,
    line("happened, stated", columns),
    ...mishaps.map((truth) =>
      line(
        truth,
        columns.map((column) => String(cells.get(`${truth} ${column}`) ?? "."))
      )
    )
  ].join("\n")
}
