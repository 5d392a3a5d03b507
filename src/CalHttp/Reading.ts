/**
 * The body of an answer, as much of it as comes: a connection that breaks, stalls or does not stop takes nothing back of
 * what arrived before.
 */
import { Cause, Duration, Effect, Option, Stream } from "effect"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"

/** Nothing that is read here is larger; the rest of what is does not count. */
export const maxBytes = 1024 * 1024

/** How often a body that goes on is asked whether there is enough of it. */
export const interval = Duration.seconds(1)

export interface Body {
  readonly bytes: Uint8Array
  /** `cut`: it broke off, or was not awaited to its end. `tooLong`: the rest of it was not read. */
  readonly end: "whole" | "cut" | "tooLong"
}

/** Where a message has a way of its own to be read as {@link read} does, at less cost. */
export const reading: unique symbol = Symbol.for("cal-tokens/CalHttp/reading")

interface Readable {
  readonly [reading]?: Way
}

export interface Way {
  readonly read: (came?: () => void) => Effect.Effect<Body>
  /** All of the body, if it has come already. */
  readonly arrived: () => Uint8Array | undefined
}

/** All of a body that has come already, where the message can say so. */
export const arrived = (message: object & Readable): Uint8Array | undefined => message[reading]?.arrived()

/** `isEnough`: nothing that may follow is worth waiting for. `came` is called for each piece. */
export const read = <E>(
  message: HttpIncomingMessage.HttpIncomingMessage<E> & Readable,
  isEnough?: (bytes: Uint8Array) => boolean,
  came?: () => void
): Effect.Effect<Body> => {
  const own = isEnough === undefined ? message[reading]?.read(came) : undefined
  return (
    own ??
    Effect.suspend(() => {
      const chunks: Array<Uint8Array> = []
      let size = 0
      let end: Body["end"] = "whole"
      const all = message.stream.pipe(
        // Here, because a stream that fails is logged by Effect with what it failed with: the request and its token. A defect
        // of the HTTP client below breaks an answer off as a network does.
        Stream.catchAllCause((cause) =>
          Stream.execute(
            Effect.sync(() => {
              if (!isEmpty(cause)) end = "cut"
            })
          )
        ),
        Stream.runForEachWhile((chunk) =>
          Effect.sync(() => {
            came?.()
            chunks.push(chunk.subarray(0, maxBytes - size))
            size += chunk.byteLength
            if (size >= maxBytes) end = "tooLong"
            return size < maxBytes
          })
        )
      )
      const enough = Effect.sync(() => size > 0 && isEnough?.(Buffer.concat(chunks)) === true).pipe(
        Effect.delay(interval),
        Effect.repeat({ until: (is) => is }),
        Effect.map(() => {
          end = "cut"
        })
      )
      return Effect.map(isEnough === undefined ? all : Effect.raceFirst(all, enough), () => ({
        bytes: Buffer.concat(chunks),
        end
      }))
    })
  )
}

/** An answer without a body has no stream, which is no mishap. */
const isEmpty = (cause: Cause.Cause<unknown>): boolean =>
  Option.exists(
    Cause.failureOption(cause),
    (error) => error instanceof HttpClientError.ResponseError && error.reason === "EmptyBody"
  )
