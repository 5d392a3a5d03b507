/** One request over undici itself: what is the same however its answer is read. */
import * as Headers from "@effect/platform/Headers"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as UrlParams from "@effect/platform/UrlParams"
import type * as Undici from "@effect/platform-node/Undici"
import { type Clock, Effect, Either } from "effect"
import * as Transport from "./Transport.js"

/** As the platform's client has it: how long an answer is worth having is for whoever asks to say. */
const timeouts = { headersTimeout: 60 * 60 * 1000, bodyTimeout: 0 } as const

/** What becomes of an answer. */
export interface Reader {
  readonly begins: (status: number, headers: Headers.Headers, controller: Undici.Dispatcher.DispatchController) => void
  readonly comes: (chunk: Uint8Array) => void
  readonly ends: () => void
  readonly fails: (error: unknown) => void
  /** Whoever asked does not wait any more. */
  readonly isLeft?: () => void
}

/** What a reader has at hand. */
export interface Asked<A> {
  readonly resume: (outcome: Effect.Effect<A, Transport.NoReply>) => void
  /** Gives the connection up. */
  readonly leave: () => void
  readonly clock: Clock.Clock
}

/** `undefined`: not with a body of this kind. */
export const send = <A>(
  dispatcher: Undici.Dispatcher,
  request: HttpClientRequest.HttpClientRequest,
  read: (asked: Asked<A>) => Reader
): Effect.Effect<A, Transport.NoReply> | undefined => {
  const body = request.body._tag === "Uint8Array" ? request.body.body : null
  if (body === null && request.body._tag !== "Empty") return undefined
  const url = UrlParams.makeUrl(request.url, request.urlParams, request.hash)
  if (Either.isLeft(url)) return Effect.fail(Transport.invalid)
  const { hash, origin, pathname, search } = url.right
  return Effect.clockWith((clock) =>
    Effect.async<A, Transport.NoReply>((resume) => {
      let sending: Undici.Dispatcher.DispatchController | undefined
      let isLeft = false
      const leave = () => {
        isLeft = true
        sending?.abort(new Error("not awaited"))
      }
      const reader = read({ resume, leave, clock })
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
              if (isLeft) leave()
            },
            onResponseStart: (controller, status, headers) => {
              // What is only in between says nothing yet.
              if (!isLeft && status >= 200) reader.begins(status, Headers.fromInput(headers), controller)
            },
            onResponseData: (_, chunk) => reader.comes(chunk),
            onResponseEnd: () => reader.ends(),
            onResponseError: (_, error) => reader.fails(error)
          }
        )
      } catch (error) {
        reader.fails(error)
      }
      return Effect.sync(() => {
        reader.isLeft?.()
        leave()
      })
    })
  )
}
