/**
 * One request over undici, and its answer read as it comes: what {@link Transport.send} does with any client, without the
 * streams, signals and fibers that a client for all purposes has to make for each request.
 */
import { setInterval } from "node:timers"
import type * as Undici from "@effect/platform-node/Undici"
import { Duration, Effect, Redacted } from "effect"
import * as Dispatch from "./Dispatch.js"
import * as Reading from "./Reading.js"
import * as Transport from "./Transport.js"

export const make =
  (dispatcher: Undici.Dispatcher): Transport.Exchange =>
  (request, isEnough) =>
    Dispatch.send<Transport.Reply>(dispatcher, request, ({ clock, leave, resume }) => {
      const chunks: Array<Uint8Array> = []
      let size = 0
      let head: Transport.Head | undefined
      let asking: ReturnType<typeof setInterval> | undefined
      let isOver = false

      const stop = () => {
        isOver = true
        clearInterval(asking)
      }
      const end = (outcome: Effect.Effect<Transport.Reply, Transport.NoReply>) => {
        stop()
        resume(outcome)
      }
      const bytes = () => Buffer.concat(chunks)
      const reply = (head: Transport.Head, isWhole: boolean) =>
        end(Effect.succeed({ ...head, body: Redacted.make(bytes()), isWhole }))

      return {
        begins: (status, headers) => {
          if (isOver) return
          const begun = { status, headers, receivedAt: clock.unsafeCurrentTimeMillis() }
          head = begun
          if (isEnough === undefined) return
          asking = setInterval(() => {
            try {
              if (size === 0 || !isEnough(begun, bytes())) return
              reply(begun, false)
            } catch {
              end(Effect.fail(Transport.unexpected))
            }
            leave()
          }, Duration.toMillis(Reading.interval))
        },
        comes: (chunk) => {
          if (isOver || head === undefined) return
          chunks.push(chunk.subarray(0, Reading.maxBytes - size))
          size += chunk.byteLength
          if (size < Reading.maxBytes) return
          reply(head, false)
          leave()
        },
        ends: () => {
          if (!isOver && head !== undefined) reply(head, true)
        },
        fails: (error) => {
          if (isOver) return
          if (head === undefined) end(Effect.fail(Transport.noReply(error)))
          else reply(head, false)
        },
        isLeft: stop
      }
    })
