/**
 * One call that spends a refresh token, as the attempt sees it: an answer, or nothing known at the deadline. The call
 * itself is not cut at the deadline: Cal.com may have rotated the token, and then the answer holds the only live one. It
 * is listened for a while longer and handed over when it comes.
 */
import { Duration, Effect, Exit } from "effect"
import { CallFailure, type Grant } from "../CalClient.js"
import { CalUnavailable } from "../TokenError.js"
import type { UserUlid } from "../Token.js"
import type { Deadline } from "../Fibers/Deadline.js"
import type { Owned } from "../Fibers/Owned.js"

const timedOut = (operation: string, after: Duration.Duration) =>
  CallFailure.Unknown({
    error: new CalUnavailable({ operation, reason: `no answer within ${Duration.toSeconds(after)} s` })
  })

/** A bug while decoding the answer comes after the token was spent. */
const unexpected = (operation: string) =>
  CallFailure.Unknown({ error: new CalUnavailable({ operation, reason: "unexpected failure" }) })

/** Runs `call` in a fiber of the service. `onLate` gets an answer that arrives after `timeout` but within `lateWait` of it. */
export const bounded = (
  { deadline, owned }: { readonly owned: Owned; readonly deadline: Deadline },
  call: Effect.Effect<Grant, CallFailure>,
  {
    lateWait,
    onLate,
    operation,
    timeout,
    userUlid
  }: {
    readonly operation: string
    readonly userUlid: UserUlid
    readonly timeout: Duration.Duration
    readonly lateWait: Duration.Duration
    readonly onLate: (answer: Exit.Exit<Grant, CallFailure>) => Effect.Effect<void>
  }
): Effect.Effect<Grant, CallFailure> =>
  Effect.async((resume) => {
    const longest = Duration.sum(timeout, lateWait)
    let isAwaited = true
    let isOver = false
    const work = owned.runToEnd(
      Effect.catchAllDefect(call, () => Effect.fail(unexpected(operation))),
      userUlid
    )
    const end = (exit: Exit.Exit<Grant, CallFailure>) => {
      if (isOver) return
      isOver = true
      inTime()
      atAll()
      if (isAwaited) resume(exit)
      else owned.runToEnd(onLate(exit), userUlid)
    }
    const inTime = deadline.after(Duration.toMillis(timeout), () => {
      isAwaited = false
      resume(Effect.fail(timedOut(operation, timeout)))
    })
    const atAll = deadline.after(Duration.toMillis(longest), () => {
      end(Exit.fail(timedOut(operation, longest)))
      work.unsafeInterruptAsFork(work.id())
    })
    work.addObserver(end)
    return Effect.sync(() => {
      isAwaited = false
      inTime()
    })
  })
