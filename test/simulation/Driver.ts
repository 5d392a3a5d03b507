/**
 * The machine under the fleet: one virtual clock, one heap of timers and messages, and processes whose fibers run only
 * when the driver lets them. Nothing here waits for real time, and all that is random comes from the seed, so a history
 * is a function of its plan.
 *
 * A crash drops a process with everything it was doing: no finaliser runs. A paused process neither computes nor reads
 * its messages; it wakes with everything that came due meanwhile, in any order.
 */
import {
  Clock,
  Context,
  DefaultServices,
  Duration,
  Effect,
  type Exit,
  type Fiber,
  FiberId,
  FiberRef,
  HashSet,
  LogLevel,
  Random,
  Runtime,
  RuntimeFlags,
  type Scheduler
} from "effect"
import { globalValue } from "effect/GlobalValue"
import type { Prng } from "./Prng.js"

/** Effect keeps fibers that belong to no other until they end, and those of a process that is gone never do. */
const { roots } = globalValue(Symbol.for("effect/FiberScope/Global"), () => ({
  roots: new Set<Fiber.RuntimeFiber<unknown, unknown>>()
}))

interface Entry {
  readonly at: number
  readonly order: number
  readonly run: () => void
  /** Whose work it is; `undefined` for what the plan itself does. */
  readonly owner: Process | undefined
  cancelled: boolean
}

export interface Timer {
  readonly cancel: () => void
}

/** More steps than this without time passing is a loop. */
const maxStepsPerInstant = 200_000

export class Driver {
  now: number
  /** Timers and messages of processes: with none of them and no task, the system is quiet. */
  pending = 0
  readonly processes = new Set<Process>()
  private readonly ready: Array<Process> = []
  private readonly heap: Array<Entry> = []
  private order = 0
  private steps = 0

  constructor(
    epoch: number,
    readonly prng: Prng,
    /** Whether a process takes its fibers in any order instead of first come, first served. */
    readonly shuffles: boolean,
    /** After how many operations a fiber lets others run. */
    readonly yieldAfter: number
  ) {
    this.now = epoch
  }

  /** Runs at an instant; in the name of a process, only if that one is alive and awake by then. */
  at(instant: number, owner: Process | undefined, run: () => void): Timer {
    const entry: Entry = { at: Math.max(instant, this.now), order: this.order++, run, owner, cancelled: false }
    if (owner !== undefined) this.pending++
    push(this.heap, entry)
    return {
      cancel: () => {
        if (entry.cancelled) return
        entry.cancelled = true
        if (owner !== undefined) this.pending--
      }
    }
  }

  after(millis: number, owner: Process | undefined, run: () => void): Timer {
    return this.at(this.now + Math.max(0, Math.ceil(millis)), owner, run)
  }

  makeReady(process: Process): void {
    if (!this.ready.includes(process)) this.ready.push(process)
  }

  /** The end of the world. */
  end(): void {
    for (const process of [...this.processes]) process.kill()
  }

  get isQuiet(): boolean {
    if (this.pending > 0 || this.ready.length > 0) return false
    for (const process of this.processes) if (process.isPaused) return false
    return true
  }

  /** Runs what is due, in the order of time, until `until` or until `observe`, called after every step, says so. */
  run(until: number, observe: () => boolean): void {
    for (;;) {
      this.drain()
      if (observe()) return
      let entry = this.heap[0]
      while (entry?.cancelled === true) {
        pop(this.heap)
        entry = this.heap[0]
      }
      if (entry === undefined || entry.at > until) break
      pop(this.heap)
      if (entry.at > this.now) this.steps = 0
      this.now = entry.at
      const { owner } = entry
      entry.cancelled = true
      if (owner !== undefined) this.pending--
      if (owner === undefined) entry.run()
      else if (owner.isAlive) owner.receive(entry.run)
    }
    this.now = Math.max(this.now, until)
  }

  private drain(): void {
    while (this.ready.length > 0) {
      const index = this.ready.length === 1 ? 0 : this.prng.int(0, this.ready.length - 1)
      const process = this.ready[index]
      if (process === undefined || !process.step()) this.ready.splice(index, 1)
      if (++this.steps > maxStepsPerInstant) throw new Error("livelock: no end of work without time passing")
    }
  }
}

type Task = () => void

/** One incarnation of a node, or the other side of a wire. */
export class Process {
  isAlive = true
  startedAt: number
  readonly runtime: Runtime.Runtime<never>
  /** Fibers that were ever scheduled and did not end. */
  readonly fibers = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
  /** Of them, those that run as long as the process does. */
  private kept: ReadonlySet<unknown> = new Set()
  private readonly scheduler: Scheduler.Scheduler
  private readonly tasks: Array<Task> = []
  private readonly fiberOf: Array<unknown> = []
  private held: Array<() => void> | undefined
  private pausedAt = 0
  /** When it last woke. */
  wokeAt = 0
  private slept = 0

  constructor(
    readonly driver: Driver,
    readonly name: string,
    seed: number,
    /** How far its clock is ahead of the driver's. */
    readonly skew: number
  ) {
    this.startedAt = driver.now
    driver.processes.add(this)
    this.scheduler = this.makeScheduler()
    const services = DefaultServices.liveServices.pipe(
      Context.add(Clock.Clock, this.clock()),
      Context.add(Random.Random, Random.make(seed))
    )
    this.runtime = Runtime.defaultRuntime.pipe(
      Runtime.disableRuntimeFlag(RuntimeFlags.RuntimeMetrics),
      Runtime.setFiberRef(DefaultServices.currentServices, services),
      Runtime.setFiberRef(FiberRef.currentLoggers, HashSet.empty()),
      Runtime.setFiberRef(FiberRef.currentMinimumLogLevel, LogLevel.None),
      Runtime.setFiberRef(FiberRef.currentTracerEnabled, false)
    )
  }

  /** Local milliseconds during which the process was not paused: what its own patience can be measured in. */
  get awake(): number {
    return (
      this.driver.now - this.startedAt - this.slept - (this.held === undefined ? 0 : this.driver.now - this.pausedAt)
    )
  }

  get isPaused(): boolean {
    return this.held !== undefined
  }

  /** Whatever runs by now may run for ever. */
  keepFibers(): void {
    this.kept = new Set(this.fibers)
  }

  /** How many fibers have work to end. */
  get running(): number {
    return [...this.fibers].filter((fiber) => !this.kept.has(fiber)).length
  }

  /** Starts a fiber; `onExit` runs outside of it. */
  fork<A, E>(effect: Effect.Effect<A, E>, onExit?: (exit: Exit.Exit<A, E>) => void): Fiber.RuntimeFiber<A, E> {
    const fiber = Runtime.runFork(this.runtime, effect, {
      immediate: false,
      scheduler: this.scheduler
    })
    if (onExit !== undefined) fiber.addObserver(onExit)
    return fiber
  }

  interrupt(fiber: Fiber.RuntimeFiber<unknown, unknown>): void {
    fiber.unsafeInterruptAsFork(FiberId.none)
  }

  /** A message or a timer is there. */
  receive(run: () => void): void {
    if (this.held === undefined) run()
    else this.held.push(run)
  }

  /** The end, without a word. */
  kill(): void {
    this.isAlive = false
    this.tasks.length = 0
    this.fiberOf.length = 0
    this.fibers.forEach((fiber) => roots.delete(fiber))
    this.fibers.clear()
    this.held = undefined
    this.driver.processes.delete(this)
  }

  pause(millis: number): void {
    if (this.held !== undefined || !this.isAlive) return
    this.held = []
    this.pausedAt = this.driver.now
    // In nobody's name: a paused process must wake.
    this.driver.after(millis, undefined, () => this.wake())
  }

  private wake(): void {
    if (!this.isAlive || this.held === undefined) return
    const held = this.driver.prng.shuffle(this.held)
    this.held = undefined
    this.wokeAt = this.driver.now
    this.slept += this.driver.now - this.pausedAt
    for (const run of held) this.driver.after(0, this, run)
    if (this.tasks.length > 0) this.driver.makeReady(this)
  }

  /** Runs one task; false when there is nothing to do. */
  step(): boolean {
    if (this.held !== undefined || this.tasks.length === 0) return false
    const index = this.driver.shuffles && this.tasks.length > 1 ? this.nextIndex() : 0
    const [task] = this.tasks.splice(index, 1)
    this.fiberOf.splice(index, 1)
    task?.()
    return this.tasks.length > 0
  }

  /** The first task of any fiber. */
  private nextIndex(): number {
    const fiber = this.fiberOf[this.driver.prng.int(0, this.tasks.length - 1)]
    return this.fiberOf.indexOf(fiber)
  }

  private makeScheduler(): Scheduler.Scheduler {
    return {
      shouldYield: (fiber) => (fiber.currentOpCount > this.driver.yieldAfter ? 0 : false),
      scheduleTask: (task, _priority, fiber) => {
        if (!this.isAlive) return
        if (fiber !== undefined && !this.fibers.has(fiber)) {
          this.fibers.add(fiber)
          fiber.addObserver(() => this.fibers.delete(fiber))
        }
        this.tasks.push(task)
        this.fiberOf.push(fiber)
        if (this.held === undefined) this.driver.makeReady(this)
      }
    }
  }

  private clock(): Clock.Clock {
    const millis = () => this.driver.now + this.skew
    const nanos = () => BigInt(millis()) * 1_000_000n
    return {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: millis,
      unsafeCurrentTimeNanos: nanos,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanos: Effect.sync(nanos),
      sleep: (duration) =>
        Effect.async<void>((resume) => {
          const left = Duration.toMillis(duration)
          if (left === Infinity) return
          const timer = this.driver.after(left, this, () => resume(Effect.void))
          return Effect.sync(timer.cancel)
        })
    }
  }
}

// A binary heap by instant, then by order of arrival.

const before = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order)

const push = (heap: Array<Entry>, entry: Entry): void => {
  let index = heap.push(entry) - 1
  while (index > 0) {
    const parentIndex = (index - 1) >> 1
    const parent = heap[parentIndex]
    if (parent === undefined || !before(entry, parent)) break
    heap[index] = parent
    index = parentIndex
  }
  heap[index] = entry
}

const pop = (heap: Array<Entry>): void => {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let index = 0
  for (;;) {
    let childIndex = 2 * index + 1
    let child = heap[childIndex]
    if (child === undefined) break
    const right = heap[childIndex + 1]
    if (right !== undefined && before(right, child)) {
      child = right
      childIndex++
    }
    if (!before(child, last)) break
    heap[index] = child
    index = childIndex
  }
  heap[index] = last
}
