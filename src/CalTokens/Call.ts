/**
 * One call that spends a refresh token, as the attempt sees it: an answer, or nothing known at the deadline. The call
 * itself is not cut at the deadline: Cal.com may have rotated the token, and then the answer holds the only live one. It
 * is listened for a while longer and handed over when it comes.
 */
import { Deferred, Duration, Effect, type Exit } from "effect"
import { CallFailure, type Grant } from "../CalClient.js"
import { CalUnavailable } from "../TokenError.js"
import type { UserUlid } from "../Token.js"
import type { Deadline } from "../Fibers/Deadline.js"
import type { Owned } from "../Fibers/Owned.js"

const timedOut = (operation: string, after: Duration.Duration) =>
  CallFailure.Unknown({
    error: new CalUnavailable({ operation, reason: `no answer within ${Duration.toSeconds(after)} s` })
  })

/** Runs `call` in a fiber of the service. `onLate` gets an answer that arrives after `timeout` but within `lateWait` of it. */
export const bounded = (
  { deadline, owned }: { readonly owned: Owned; readonly deadline: Deadline },
  call: Effect.Effect<Grant, CallFailure>,
  options: {
    readonly operation: string
    readonly userUlid: UserUlid
    readonly timeout: Duration.Duration
    readonly lateWait: Duration.Duration
    readonly onLate: (answer: Exit.Exit<Grant, CallFailure>) => Effect.Effect<void>
  }
): Effect.Effect<Grant, CallFailure> =>
  Effect.gen(function* () {
    const answer = yield* Deferred.make<Grant, CallFailure>()
    const longest = Duration.sum(options.timeout, options.lateWait)
    owned.runToEnd(
      Effect.gen(function* () {
        const exit = yield* call.pipe(
          Effect.timeoutFail({ duration: longest, onTimeout: () => timedOut(options.operation, longest) }),
          // A bug while decoding the answer comes after the token was spent.
          Effect.catchAllDefect(() =>
            Effect.fail(
              CallFailure.Unknown({
                error: new CalUnavailable({ operation: options.operation, reason: "unexpected failure" })
              })
            )
          ),
          Effect.exit
        )
        const inTime = yield* Deferred.done(answer, exit)
        if (!inTime) yield* options.onLate(exit)
      }),
      options.userUlid
    )
    const cancel = deadline.after(Duration.toMillis(options.timeout), () =>
      Deferred.unsafeDone(answer, Effect.fail(timedOut(options.operation, options.timeout)))
    )
    return yield* Effect.ensuring(Deferred.await(answer), Effect.sync(cancel))
  })
