/**
 * A thousand users move from the app of `test/examples/moving` while its old code still runs, Cal.com has mishaps and the hours
 * pass: whoever is lost is lost to a call of the old code's own. What became of whom is printed.
 */
import { Duration, Effect } from "effect"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { type Failure, isFailure } from "cal-tokens/actions"
import { type Call, Fault } from "cal-tokens/sandbox"
import { name as oldCode } from "../examples/moving/before.js"
import { makeWorld } from "../support/MovingWorld.js"

const count = 1000
const hours = 5

/** Of five users three are managed, and two consented. */
const people = Array.from({ length: count }, (_, n) => ({
  n,
  userUlid: `01ARZ3NDEKTSV4RRFF${String(n).padStart(8, "0")}`,
  kind: n % 5 < 3 ? ("managed" as const) : ("oauth2" as const)
}))
type Person = (typeof people)[number]

/** So many at once: one process plays Cal.com, too. */
const forEach = <A, B>(items: ReadonlyArray<A>, work: (item: A) => Promise<B>): Promise<ReadonlyArray<B>> =>
  Effect.runPromise(Effect.forEach(items, (item) => Effect.promise(() => work(item)), { concurrency: 60 }))

/** The mishaps of an hour strike one user of eight, at each run the same. */
const mishapOf = ({ kind, n }: Person, hour: number, isMoved: boolean, calUserId: number): Fault | undefined => {
  const target = { kind: kind === "managed" ? "refresh" : "oauth2Refresh", calUserId } as const
  // An answer that never comes takes somebody's consent along, whoever asked: the new code is spared that.
  const isSpared = isMoved && kind === "oauth2"
  switch ((Math.imul(n * hours + hour + 1, 0x9e3779b1) >>> 16) % 40) {
    case 0:
      return isSpared ? undefined : Fault.dropAfter(target)
    case 1:
      return Fault.dropBefore(target)
    case 2:
      return Fault.status(503, target)
    case 3:
      return Fault.delayAfter("300 millis", target)
    case 4:
      return isSpared ? undefined : Fault.raceBothSucceed("50 millis", { ...target, times: 2 })
    default:
      return undefined
  }
}

describe("a thousand users who move", () => {
  let world: Awaited<ReturnType<typeof makeWorld>>
  const calUserIds = new Map<string, number>()
  const spending: Array<Call> = []

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["Date"] }) // the clock alone: what waits goes on waiting in real time
    // An hour takes seconds here: what waits in it, or is counted in it, does so for a shorter time.
    world = await makeWorld({
      maxAttempts: 100,
      // So many are lost in a moment that it would have the others wait, for half a minute each time.
      brakeRejections: count,
      backoffMin: Duration.millis(100),
      backoffMax: Duration.millis(500),
      probeDelayExpired: Duration.millis(250),
      latePairWait: Duration.millis(250)
    })
    for (const { kind, userUlid } of people) {
      const grant = await world.cal.grant({ kind, email: `${userUlid}@example.com` })
      await world.add(userUlid, grant)
      calUserIds.set(userUlid, grant.calUserId)
    }
    spending.length = 0
  })
  afterEach(async () => {
    await world.end()
    vi.useRealTimers()
  })

  const calUserIdOf = ({ userUlid }: Person) => calUserIds.get(userUlid) ?? 0

  /** All tokens expire. */
  const nextHour = () => {
    world.cal.clearFaults()
    vi.setSystemTime(new Date().getTime() + 61 * 60_000)
  }

  const keepCalls = () => {
    spending.push(...world.cal.calls().filter(({ kind }) => kind !== "api"))
    world.cal.resetCalls()
  }

  interface Asking {
    readonly makeCalApiRequest: <A>(
      endpoint: string,
      method: "GET" | "POST",
      body: unknown,
      userUlid: string
    ) => Promise<A | Failure | { readonly success: false; readonly error: string }>
  }
  const ask = (app: Asking, { userUlid }: Person) => app.makeCalApiRequest<object>("/me", "GET", undefined, userUlid)

  /** Until the new code knows: who was told to come back comes back. */
  const settle = async (person: Person): Promise<Failure | undefined> => {
    for (;;) {
      const answer = await world.after.makeCalApiRequest<object>("/me", "GET", undefined, person.userUlid)
      if (!isFailure(answer)) return undefined
      if (answer.code === "ReauthorizationRequired") return answer
      assert.notStrictEqual(answer.code, "ShuttingDown")
      await Effect.runPromise(Effect.sleep("50 millis"))
    }
  }

  /** Who spent, or replaced, what the new code was refused with, by Cal.com's own list. */
  const spenderOf = (person: Person): Call | undefined => {
    const calls = spending.filter(({ calUserId }) => calUserId === calUserIdOf(person))
    const refused = calls.findLast(({ status, userAgent }) => userAgent === "cal-tokens" && status === 400)
    const granted = calls.filter(({ status }) => status === 200)
    const spent = granted.find(({ refreshTokenHash }) => refreshTokenHash === refused?.refreshTokenHash)
    if (spent !== undefined) return spent
    // Of two that were granted for one token, the later one ended the pair of the other.
    const issued = granted.find(({ issuedRefreshTokenHash }) => issuedRefreshTokenHash === refused?.refreshTokenHash)
    return granted.findLast((call) => call !== issued && call.refreshTokenHash === issued?.refreshTokenHash)
  }

  /** Everybody is asked for, once, and what became of them is said. */
  const report = async (title: string) => {
    nextHour()
    const failures = await forEach(people, settle)
    keepCalls()
    const lost = people.flatMap((person, place) => {
      const failure = failures[place]
      return failure === undefined ? [] : [{ person, failure, by: spenderOf(person) }]
    })
    const spends = (by: string) => spending.filter(({ status, userAgent }) => userAgent === by && status === 200).length
    const reissued = spending.filter(({ kind, userAgent }) => kind === "forceRefresh" && userAgent === "cal-tokens")
    const lines = [
      `${title}: ${count - lost.length} of ${count} answered, ${lost.length} have to reconnect.`,
      `  ${spends(oldCode)} refreshes by the old code, ${spends("cal-tokens")} by cal-tokens, of which ` +
        `${reissued.length} gave a managed user new tokens.`,
      ...lost.map(
        ({ by, failure, person }) =>
          `  ${person.userUlid} (${person.kind}): spent by ${by?.userAgent}` +
          `${by?.fault === undefined ? "" : `, struck by ${by.fault}`}. ${failure.error}`
      )
    ]
    await new Promise((resolve) => process.stdout.write(`${lines.join("\n")}\n`, resolve))
    return lost
  }

  it("are lost, if at all, to the old code's own calls, while they move in waves", async () => {
    const moved = new Set<string>()
    for (let hour = 0; hour < hours; hour++) {
      for (const person of people) {
        const fault = mishapOf(person, hour, moved.has(person.userUlid), calUserIdOf(person))
        if (fault !== undefined) world.cal.inject(fault)
      }
      // Two processes are asked for everybody at once, while some move.
      const asked = forEach(people, (person) =>
        Promise.all([ask(world.during, person), ask(world.duringElsewhere, person)])
      )
      const wave = hour === 0 ? [] : people.filter(({ n }) => n % (hours - 1) === hour - 1)
      for (let from = 0; from < wave.length; from += 50) {
        await world.move(wave.slice(from, from + 50).map(({ userUlid }) => userUlid))
      }
      await asked
      keepCalls()
      const all = people.map(({ userUlid }) => userUlid)
      await world.move(all.filter((userUlid) => wave.some((person) => person.userUlid === userUlid)))
      for (let from = 0; from < count; from += 500) await world.again(all.slice(from, from + 500))
      for (const userUlid of await world.movedUsers()) moved.add(userUlid)
      nextHour()
    }
    // The old code is gone.
    while ((await world.moveRest()).isMore);
    const lost = await report("Moved in waves")
    for (const { by, person } of lost) {
      assert.strictEqual(by?.userAgent, oldCode, person.userUlid)
      assert.strictEqual(person.kind, "oauth2")
    }
    // Otherwise nothing was tried.
    assert.isAtLeast(lost.length, 1)
    assert.isAtLeast(moved.size, count / 2)
  })

  it("are lost to old code that was forgotten somewhere, if they consented, and are told of it", async () => {
    for (let from = 0; from < count; from += 500) {
      await world.move(people.slice(from, from + 500).map(({ userUlid }) => userUlid))
    }
    nextHour()
    // A cron job, which keeps tokens fresh for as many as it gets to before somebody asks for them.
    const kept = people.filter(({ n }) => n % 10 < 4)
    await forEach(kept, ({ userUlid }) => world.before.refreshUserCalTokens(userUlid))
    const lost = await report("With the old code forgotten somewhere")
    assert.deepStrictEqual(
      lost.map(({ person }) => person),
      kept.filter(({ kind }) => kind === "oauth2")
    )
    for (const { by, failure } of lost) {
      assert.strictEqual(by?.userAgent, oldCode)
      assert.match(failure.error, /a second system may still refresh/)
    }
  })
})
