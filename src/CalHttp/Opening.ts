/**
 * One request over undici whose answer is handed on while it arrives: what {@link Transport.open} does with any client, without
 * the signals, fibers and streams that a client for all purposes makes for each request. A short body comes whole by itself;
 * of a long one no more is in memory than somebody is about to take.
 */
import type * as Headers from "@effect/platform/Headers"
import type * as Undici from "@effect/platform-node/Undici"
import { Chunk, Effect, Option, Stream } from "effect"
import * as Dispatch from "./Dispatch.js"
import * as Reading from "./Reading.js"
import * as Transport from "./Transport.js"

/** So much of a body is there before anybody asks for it. */
const maxAhead = 64 * 1024

const nothing = new Uint8Array()

type End = "whole" | "cut"

/** What has come of a body. */
class Arriving {
  #chunks: Array<Uint8Array> = []
  #size = 0
  #end: End | undefined
  /** Whoever reads all of it has it in memory anyway. */
  #isWanted = false
  /** Somebody takes it piece by piece: nobody else has its beginning, unless it was read before. */
  #isHandedOn = false
  /** All that came, for whoever reads it again. */
  #kept: Uint8Array | undefined
  readonly #readers = new Set<() => void>()

  constructor(readonly controller: Undici.Dispatcher.DispatchController) {}

  push(chunk: Uint8Array) {
    this.#chunks.push(chunk)
    this.#size += chunk.byteLength
    if (!this.#isWanted && this.#size >= maxAhead) this.controller.pause()
    this.#tell()
  }

  finish(end: End) {
    this.#end ??= end
    this.#tell()
  }

  readonly leave = () => {
    if (this.#end !== undefined) return
    this.finish("cut")
    this.controller.abort(new Error("not awaited"))
  }

  /** All of it, or as much as came until there were `longest` bytes. */
  whole(longest: number, came?: () => void): Effect.Effect<Reading.Body> {
    return this.#read((done, isFirst) => {
      if (!isFirst) came?.()
      // The rest of it must not be taken for all of it.
      if (this.#isHandedOn && this.#kept === undefined) return done(Effect.succeed({ bytes: nothing, end: "cut" }))
      this.#isWanted = true
      const isLong = (this.#kept?.byteLength ?? this.#size) >= longest
      if (this.#end === undefined && !isLong) return
      if (isLong) this.leave()
      const bytes = (this.#kept ??= Buffer.concat(this.#chunks))
      if (!this.#isHandedOn) this.#chunks = [bytes]
      const end = isLong ? "tooLong" : (this.#end ?? "cut")
      done(Effect.succeed({ bytes: bytes.subarray(0, longest), end }))
    })
  }

  readonly arrived = (): Uint8Array | undefined =>
    this.#end === "whole" && !this.#isHandedOn ? Buffer.concat(this.#chunks) : undefined

  /** From its beginning, once. */
  readonly stream: Stream.Stream<Uint8Array, Transport.Broken> = Stream.suspend(() => {
    if (this.#isHandedOn) return Stream.fail(Transport.decodeFailed)
    this.#isHandedOn = true
    this.#isWanted = false
    return Stream.ensuring(Stream.repeatEffectChunkOption(this.#next), Effect.sync(this.leave))
  })

  /** What is there, once there is something; nothing at the end. */
  readonly #next: Effect.Effect<Chunk.Chunk<Uint8Array>, Option.Option<Transport.Broken>> = this.#read((done) => {
    if (this.#chunks.length > 0) {
      const chunks = Chunk.unsafeFromArray(this.#chunks)
      this.#chunks = []
      this.#size = 0
      done(Effect.succeed(chunks))
    } else if (this.#end !== undefined) {
      done(Effect.fail(this.#end === "cut" ? Option.some(Transport.decodeFailed) : Option.none()))
    }
  })

  /** Looks at what is there until `look` is done with it. */
  #read<A, E>(look: (done: (outcome: Effect.Effect<A, E>) => void, isFirst: boolean) => void): Effect.Effect<A, E> {
    return Effect.async((resume) => {
      // From now on whoever reads gives it up.
      forgotten.unregister(this)
      let isDone = false
      const done = (outcome: Effect.Effect<A, E>) => {
        isDone = true
        this.#readers.delete(again)
        resume(outcome)
      }
      const again = () => look(done, false)
      this.#readers.add(again)
      look(done, true)
      if (!isDone) this.controller.resume()
      return Effect.sync(() => {
        this.#readers.delete(again)
        if (this.#readers.size === 0) this.leave()
      })
    })
  }

  #tell() {
    for (const reader of this.#readers) reader()
  }
}

/** An answer that nobody read and nobody can read any more: its connection is given up. */
const forgotten = new FinalizationRegistry<() => void>((leave) => leave())

const opened = (status: number, headers: Headers.Headers, body: Arriving): Transport.Opened => {
  const answer: Transport.Opened = {
    status,
    headers,
    arrived: body.arrived,
    read: (came) => body.whole(Reading.maxBytes, came),
    bytes: Effect.flatMap(body.whole(Infinity), ({ bytes, end }) =>
      end === "whole" ? Effect.succeed(bytes) : Effect.fail(Transport.decodeFailed)
    ),
    stream: body.stream
  }
  forgotten.register(answer, body.leave, body)
  return answer
}

export const make =
  (dispatcher: Undici.Dispatcher): Transport.Opening =>
  (request) =>
    Dispatch.send<Transport.Opened>(dispatcher, request, ({ resume }) => {
      let arriving: Arriving | undefined
      return {
        begins: (status, headers, controller) => {
          arriving = new Arriving(controller)
          resume(Effect.succeed(opened(status, headers, arriving)))
        },
        comes: (chunk) => arriving?.push(chunk),
        ends: () => arriving?.finish("whole"),
        fails: (error) =>
          arriving === undefined ? resume(Effect.fail(Transport.noReply(error))) : arriving.finish("cut")
      }
    })
