/**
 * One request over undici, and its answer read as it comes: what {@link Transport.send} does with any client, without the
 * streams, signals and fibers that a client for all purposes has to make for each request.
 */
import { setInterval } from "node:timers"
import * as Headers from "@effect/platform/Headers"
import * as UrlParams from "@effect/platform/UrlParams"
import type * as Undici from "@effect/platform-node/Undici"
import { Duration, Effect, Either, Redacted } from "effect"
import * as Reading from "./Reading.js"
import * as Transport from "./Transport.js"

/** As the platform's client has it: how long an answer is worth having is for whoever asks to say. */
const timeouts = { headersTimeout: 60 * 60 * 1000, bodyTimeout: 0 } as const

export const make =
  (dispatcher: Undici.Dispatcher): Transport.Exchange =>
  (request, isEnough) => {
    const body = request.body._tag === "Uint8Array" ? request.body.body : null
    if (body === null && request.body._tag !== "Empty") return undefined
    return Effect.clockWith((clock) => {
      const url = UrlParams.makeUrl(request.url, request.urlParams, request.hash)
      if (Either.isLeft(url)) return Effect.fail(Transport.invalid)
      const { hash, origin, pathname, search } = url.right
      return Effect.async<Transport.Reply, Transport.NoReply>((resume) => {
        const chunks: Array<Uint8Array> = []
        let size = 0
        let head: Transport.Head | undefined
        let sending: Undici.Dispatcher.DispatchController | undefined
        let asking: ReturnType<typeof setInterval> | undefined
        let isOver = false

        const end = (outcome: Effect.Effect<Transport.Reply, Transport.NoReply>) => {
          isOver = true
          clearInterval(asking)
          resume(outcome)
        }
        const bytes = () => Buffer.concat(chunks)
        const reply = (head: Transport.Head, isWhole: boolean) =>
          end(Effect.succeed({ ...head, body: Redacted.make(bytes()), isWhole }))
        const leave = () => sending?.abort(new Error("not awaited"))
        const fail = (error: unknown) => {
          if (isOver) return
          if (head === undefined) end(Effect.fail(Transport.noReply(error)))
          else reply(head, false)
        }

        try {
          dispatcher.dispatch(
            {
              ...timeouts,
              origin,
              path: pathname + search + hash,
              method: request.method,
              headers: request.headers,
              body
            },
            {
              onRequestStart: (controller) => {
                sending = controller
                if (isOver) leave()
              },
              onResponseStart: (_, status, headers) => {
                // What is only in between says nothing yet.
                if (isOver || status < 200) return
                const begun = {
                  status,
                  headers: Headers.fromInput(headers),
                  receivedAt: clock.unsafeCurrentTimeMillis()
                }
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
              onResponseData: (_, chunk) => {
                if (isOver || head === undefined) return
                chunks.push(chunk.subarray(0, Reading.maxBytes - size))
                size += chunk.byteLength
                if (size < Reading.maxBytes) return
                reply(head, false)
                leave()
              },
              onResponseEnd: () => {
                if (!isOver && head !== undefined) reply(head, true)
              },
              onResponseError: (_, error) => fail(error)
            }
          )
        } catch (error) {
          fail(error)
        }
        return Effect.sync(() => {
          isOver = true
          clearInterval(asking)
          leave()
        })
      })
    })
  }
