/**
 * The audit trail: who was given a token, who changed a connection, whose key was refused, and from where. One log line
 * each, of its own and with nothing but its own fields, named as OpenTelemetry names them. It is written whatever the log
 * level, before the answer leaves, and whether or not the caller waits for that.
 */
import { HttpServerRequest } from "@effect/platform"
import { Clock, Context, Duration, Effect, Fiber, FiberRef, HashMap, Layer, LogLevel, Option } from "effect"
import { Caller } from "../Api/Access.js"
import type { OnStored } from "../CalTokens.js"
import type { UserUlid } from "../Token.js"
import { TokenStorage } from "../TokenStorage.js"
import * as ClientAddress from "./ClientAddress.js"
import * as RequestId from "./RequestId.js"

/**
 * The name of the log; every line has it as `logger`.
 *
 * @since 0.1.0
 * @category constants
 */
export const name = "cal_tokens.audit"

/** What happened, and its words. */
const events = {
  "token.read": "A token was handed out",
  "token.renewed": "A page was given a token for its last one",
  "connection.created": "A user was connected",
  "connection.replaced": "A user's connection was replaced",
  "connection.deleted": "A user was disconnected",
  "connection.displaced": "A user's Cal.com account went to another user",
  "session.created": "A session of a user was created",
  "sessions.ended": "All sessions of a user were ended",
  "page.opened": "A session of the operator's page was begun",
  "key.unknown": "An unknown API key was refused",
  "key.expired": "An API key whose time is over was refused",
  "key.forbidden": "An API key was refused what it is not for",
  "key.suppressed": "More API keys were refused"
} as const

/**
 * What is recorded.
 *
 * @since 0.1.0
 * @category models
 */
export type Event = keyof typeof events

/** Refusals of one address (IPv6: one /64) that have lines of their own within a {@link window}; the others are counted. */
export const maxRefusals = 10
const window = Duration.minutes(1)

/** From more addresses than this within a window, refusals are counted together. */
const maxAddresses = 10_000

/**
 * What a record is about.
 *
 * @since 0.1.0
 * @category models
 */
export interface Fields {
  readonly userUlid?: UserUlid | undefined
  /** The name of an API key; that of the caller, where there is one. */
  readonly key?: string | undefined
}

/** Writes lines about the request that it was made for, also when that is over. */
export type Trail = (event: Event, fields?: Fields) => Effect.Effect<void>

/**
 * The record of who was given what.
 *
 * @since 0.1.0
 * @category tags
 */
export class Audit extends Context.Tag("cal-tokens/Http/Audit")<
  Audit,
  {
    readonly trail: Effect.Effect<Trail, never, HttpServerRequest.HttpServerRequest>
    /** A key was refused. `route`: the path that it was to open, without its parameters. */
    readonly refused: (
      event: "key.unknown" | "key.expired" | "key.forbidden",
      fields: { readonly key?: string | undefined; readonly route: string }
    ) => Effect.Effect<void, never, HttpServerRequest.HttpServerRequest>
  }
>() {}

/**
 * A line about the request at hand.
 *
 * @since 0.1.0
 * @category auditing
 */
export const audit = (
  event: Event,
  userUlid: UserUlid
): Effect.Effect<void, never, Audit | HttpServerRequest.HttpServerRequest> =>
  Effect.flatMap(Audit, ({ trail }) => Effect.flatMap(trail, (write) => write(event, { userUlid })))

/**
 * Changes a connection and tells so. A caller who hangs up changes nothing about either: it would be a way to do the one
 * without the other. `event` is told whether there was a connection before.
 */
export const changing = <A, E, R>(
  userUlid: UserUlid,
  change: Effect.Effect<A, E, R>,
  event: (existed: boolean) => Event
): Effect.Effect<A, E, R | Audit | TokenStorage | HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function* () {
    // Now: a connection that was closed has no address any more.
    const write = yield* Effect.flatMap(Audit, ({ trail }) => trail)
    return yield* toTheEnd(userUlid, (existed) => Effect.tap(change, write(event(existed), { userUlid })))
  })

/** The same for many users at once: each of those whose connection was changed has a line. */
export const changingMany = <A, E, R>(
  change: Effect.Effect<A, E, R>,
  events: (changed: A) => ReadonlyArray<readonly [event: Event, userUlid: UserUlid]>
): Effect.Effect<A, E, R | Audit | HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function* () {
    const write = yield* Effect.flatMap(Audit, ({ trail }) => trail)
    const told = Effect.tap(change, (changed) =>
      Effect.forEach(events(changed), ([event, userUlid]) => write(event, { userUlid }), { discard: true })
    )
    return yield* Effect.flatten(Fiber.await(yield* Effect.forkDaemon(told)))
  })

/**
 * The same for what makes a connection on its way, and may fail after that. If it takes the Cal.com account of another user,
 * that one is told of too.
 */
export const connecting = <A, E, R>(
  userUlid: UserUlid,
  connect: (onStored: OnStored) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | Audit | TokenStorage | HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function* () {
    const write = yield* Effect.flatMap(Audit, ({ trail }) => trail)
    return yield* toTheEnd(userUlid, (existed) =>
      connect((displaced) =>
        Effect.zipLeft(
          write(connected(existed), { userUlid }),
          Effect.forEach(Option.toArray(displaced), (other) => write("connection.displaced", { userUlid: other }))
        )
      )
    )
  })

/** `existed`: whether there was a connection before. */
const toTheEnd = <A, E, R>(userUlid: UserUlid, work: (existed: boolean) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { find } = yield* TokenStorage
    // A row that cannot be read is one.
    const existed = Effect.match(find(userUlid), { onFailure: () => true, onSuccess: Option.isSome })
    const fiber = yield* Effect.forkDaemon(Effect.flatMap(existed, work))
    return yield* Effect.flatten(Fiber.await(fiber))
  })

export const connected = (existed: boolean) => (existed ? "connection.replaced" : "connection.created")

const line = (event: Event, fields: Readonly<Record<string, string | number | undefined>>): Effect.Effect<void> =>
  Effect.logInfo(events[event]).pipe(
    Effect.locally(
      FiberRef.currentLogAnnotations,
      HashMap.fromIterable(
        Object.entries({ logger: name, "event.name": event, ...fields }).filter(([, value]) => value !== undefined)
      )
    ),
    Effect.locally(FiberRef.currentMinimumLogLevel, LogLevel.All)
  )

interface Counted {
  /** The first one, of a network. */
  readonly address: string | undefined
  count: number
}

export const layer: Layer.Layer<Audit> = Layer.scoped(
  Audit,
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const addressOf = yield* ClientAddress.exact
    const refusals = new Map<string, Counted>()
    let windowEnd = 0
    let isEnding = false

    const trail = Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const caller = yield* Effect.serviceOption(Caller)
      const address = addressOf(request)
      return (event: Event, { key, userUlid }: Fields = {}) =>
        line(event, {
          "api_key.name": key ?? Option.getOrUndefined(caller)?.name,
          "user.id": userUlid,
          "client.address": address,
          "request.id": RequestId.of(request)
        })
    })

    /** Ends the window, and tells how many refusals of it had no line. */
    const flush = Effect.suspend(() => {
      const counted = [...refusals.values()].filter(({ count }) => count > maxRefusals)
      refusals.clear()
      isEnding = false
      return Effect.forEach(
        counted,
        ({ address, count }) => line("key.suppressed", { "client.address": address, suppressed: count - maxRefusals }),
        { discard: true }
      )
    })
    yield* Effect.addFinalizer(() => flush)

    return {
      trail,
      refused: (event, { key, route }) =>
        Effect.gen(function* () {
          const request = yield* HttpServerRequest.HttpServerRequest
          const now = yield* Clock.currentTimeMillis
          if (now >= windowEnd) {
            yield* flush
            windowEnd = now + Duration.toMillis(window)
          }
          const address = addressOf(request)
          const network = ClientAddress.network(address ?? "unknown")
          const who = refusals.has(network) || refusals.size < maxAddresses ? network : "others"
          const counted = refusals.get(who) ?? { address: who === "others" ? who : address, count: 0 }
          refusals.set(who, counted)
          counted.count++
          if (counted.count > maxRefusals) {
            if (isEnding) return
            isEnding = true
            return yield* Effect.forkIn(Effect.delay(flush, Duration.millis(windowEnd - now)), scope)
          }
          yield* line(event, {
            "api_key.name": key,
            "client.address": address,
            "http.request.method": request.method,
            "http.route": route,
            "request.id": RequestId.of(request)
          })
        })
    }
  })
)
