/**
 * Runs effects for callers that know only promises: has the services built at the first call, runs, logs every failure
 * once and never rejects. While it runs something, the process does not end.
 */
import { AsyncResource } from "node:async_hooks"
import { Cause, type Context, Effect, Exit, Fiber, FiberId, LogLevel, Option, Runtime } from "effect"
import * as Tried from "../CalHttp/Tried.js"
import { levelOf } from "../ErrorFacts.js"
import * as KeepAlive from "../Fibers/KeepAlive.js"
import { isTokenError, type TokenError } from "../TokenError.js"
import type { Backing, Open } from "./Backing.js"
import * as Failure from "./Failure.js"

/** What is being done, for the log. */
export interface Operation {
  readonly name: string
  readonly userUlid?: string | undefined
}

export interface Runner<R> {
  /** The services, once they are built and until they are disposed of. */
  readonly services: () => Context.Context<R> | undefined
  /** Resolves to the effect's value, or to a failure that has been logged. */
  readonly run: <A>(
    operation: Operation,
    effect: Effect.Effect<A, TokenError | Failure.Lacking, R>
  ) => Promise<A | Failure.Failure>
  /** Logs a failure that arose outside of an effect, for a reason that only the log is told, and hands it back. */
  readonly refuse: (operation: Operation, failure: Failure.Failure, reason?: string) => Promise<Failure.Failure>
  /** Logs something that went wrong beside an operation and does not change its answer. */
  readonly note: (operation: Operation, message: string) => Promise<void>
  /** Gives the services back, which closes them unless somebody shares them. Later calls answer `ShuttingDown`. */
  readonly dispose: () => Promise<void>
}

const annotate = (operation: Operation, more: Record<string, unknown> = {}) =>
  Effect.annotateLogs({
    operation: operation.name,
    ...(operation.userUlid === undefined ? {} : { userUlid: operation.userUlid }),
    ...more
  })

/** What only the log is told: nothing for the errors of this package, whose own message says it all. */
const reasonOf = (cause: Cause.Cause<unknown>): string | undefined =>
  Cause.isInterruptedOnly(cause)
    ? undefined
    : Option.match(Cause.failureOption(cause), {
        onNone: () => Failure.describe(Cause.squash(cause)),
        onSome: (error) => (isTokenError(error) ? undefined : Failure.words(error))
      })

/** `beside` runs as long as the services are there. */
export const make = <R, E>(open: Open<R, E>, beside: Effect.Effect<void, never, R> = Effect.void): Runner<R> => {
  let opened: Promise<Backing<R, E>> | undefined
  let built: Runtime.Runtime<R> | undefined
  let running: Fiber.RuntimeFiber<void> | undefined
  let closed = Promise.resolve()
  let disposed = false

  // Fibers, sockets and timers keep the asynchronous context they are made in. Without this they would keep the first
  // caller's: its request store would live as long as the service.
  const outside = new AsyncResource("cal-tokens/Actions")

  const log = async (effect: Effect.Effect<void>): Promise<void> => {
    const { logging } = open
    const before = async () => (logging === undefined ? Runtime.defaultRuntime : outside.runInAsyncScope(logging))
    Runtime.runFork(built ?? (await before()))(effect)
  }

  const refuse = async (operation: Operation, failure: Failure.Failure, reason?: string, more?: object) => {
    const { code, status } = failure
    await log(
      Effect.logWithLevel(
        LogLevel.fromLiteral(levelOf(code)),
        `${operation.name} failed: ${reason ?? failure.error}`
      ).pipe(annotate(operation, { code, ...(status === undefined ? {} : { status }), ...more }))
    )
    return failure
  }

  const fail = (operation: Operation, cause: Cause.Cause<unknown>, otherwise: Failure.Failure) =>
    refuse(
      operation,
      Failure.fromCause(cause, otherwise),
      reasonOf(cause),
      Tried.fieldsOf(Option.getOrUndefined(Cause.failureOption(cause)))
    )

  const leave = async (backing: Promise<Backing<R, E>>): Promise<void> => {
    const release = KeepAlive.hold()
    if (running !== undefined) await Effect.runPromise(Fiber.interrupt(running))
    running = undefined
    const exit = await backing.then((it) => it.leave())
    if (Exit.isFailure(exit)) await fail({ name: "dispose" }, exit.cause, Failure.internalError)
    release()
  }

  // A failed build is tried again: a database that is down at the first call must not be fatal.
  const acquire = async (): Promise<Exit.Exit<Runtime.Runtime<R>, E>> => {
    await closed
    if (disposed) return Exit.interrupt(FiberId.none)
    const backing = (opened ??= outside.runInAsyncScope(open).catch((error: unknown) => broken<R, E>(error)))
    const exit = await (await backing).runtime
    if (opened !== backing) return exit
    if (Exit.isFailure(exit)) {
      opened = undefined
      closed = leave(backing)
    } else if (built === undefined) {
      built = exit.value
      running = outside.runInAsyncScope(() => Runtime.runFork(exit.value)(beside))
    }
    return exit
  }

  return {
    services: () => built?.context,
    run: async (operation, effect) => {
      const release = KeepAlive.hold()
      try {
        const runtime = built === undefined ? await acquire() : Exit.succeed(built)
        if (Exit.isFailure(runtime)) return await fail(operation, runtime.cause, Failure.startFailed)
        if (disposed) return await refuse(operation, Failure.shuttingDown)
        const exit = await outside.runInAsyncScope(() => Runtime.runPromiseExit(runtime.value)(effect))
        return Exit.isSuccess(exit) ? exit.value : await fail(operation, exit.cause, Failure.internalError)
      } finally {
        release()
      }
    },
    refuse,
    note: (operation, message) => log(Effect.logWarning(message).pipe(annotate(operation))),
    dispose: async () => {
      disposed = true
      built = undefined
      if (opened !== undefined) {
        closed = leave(opened)
        opened = undefined
      }
      await closed
    }
  }
}

/** The module that opens it cannot be loaded. */
const broken = <R, E>(error: unknown): Backing<R, E> => ({
  runtime: Promise.resolve(Exit.die(error)),
  leave: () => Promise.resolve(Exit.void)
})
