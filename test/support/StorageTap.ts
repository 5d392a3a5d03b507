/** Memory storage behind a tap: a test counts what goes through, and breaks, slows or interleaves it. */
import { Context, Effect, Layer } from "effect"
import { StorageUnavailable } from "../../src/TokenError.js"
import * as TokenStorage from "../../src/TokenStorage.js"
import { layerMemory } from "../../src/TokenStorage/Memory.js"

export type Operation =
  | "find"
  | "claim"
  | "spend"
  | "commit"
  | "fail"
  | "seal"
  | "sealed"
  | "connect"
  | "update"
  | "disconnect"
  | "endSessions"
  | "findByAccessToken"
  | "claimDue"
  | "used"
  | "handedOut"
  | "counts"
  | "activity"
  | "outlook"

interface Rule {
  readonly operation: Operation
  left: number
  readonly before: Effect.Effect<void, StorageUnavailable>
  readonly after: Effect.Effect<void, StorageUnavailable>
}

export class StorageTap extends Context.Tag("test/StorageTap")<
  StorageTap,
  {
    /** How often an operation was called since the start or the last `reset`. */
    readonly count: (operation: Operation) => number
    readonly reset: Effect.Effect<void>
    /** Runs `before` and `after` around the next calls of an operation; a failure takes the call's place. */
    readonly around: (
      operation: Operation,
      rule: {
        readonly before?: Effect.Effect<void, StorageUnavailable>
        readonly after?: Effect.Effect<void, StorageUnavailable>
        readonly times?: number
      }
    ) => Effect.Effect<void>
    /** The next calls fail and change nothing. */
    readonly refuse: (operation: Operation, times?: number) => Effect.Effect<void>
    /** The next calls take effect and their answer is lost. */
    readonly loseAnswer: (operation: Operation, times?: number) => Effect.Effect<void>
    /** Whatever was to happen to further calls does not. */
    readonly relent: Effect.Effect<void>
    /** Every call fails until `up`. */
    readonly down: Effect.Effect<void>
    readonly up: Effect.Effect<void>
    /** The storage itself, uncounted and unbroken. */
    readonly raw: TokenStorage.TokenStorage["Type"]
  }
>() {}

export const layer: Layer.Layer<StorageTap | TokenStorage.TokenStorage> = Layer.effectContext(
  Effect.map(Effect.provide(TokenStorage.TokenStorage, layerMemory), (raw) => {
    const counts = new Map<Operation, number>()
    let rules: Array<Rule> = []
    let isDown = false
    const broken = (operation: Operation) =>
      Effect.suspend(() => Effect.fail(new StorageUnavailable({ operation, reason: "broken by a test" })))

    const tapped = <A, E>(
      operation: Operation,
      effect: Effect.Effect<A, E>
    ): Effect.Effect<A, E | StorageUnavailable> =>
      Effect.suspend(() => {
        counts.set(operation, (counts.get(operation) ?? 0) + 1)
        if (isDown) return broken(operation)
        const rule = rules.find((rule) => rule.operation === operation)
        if (rule === undefined) return effect
        if (--rule.left <= 0) rules = rules.filter((other) => other !== rule)
        return Effect.zipRight(rule.before, Effect.zipLeft(effect, rule.after))
      })

    const tap = StorageTap.of({
      count: (operation) => counts.get(operation) ?? 0,
      reset: Effect.sync(() => counts.clear()),
      around: (operation, { after = Effect.void, before = Effect.void, times = 1 }) =>
        Effect.sync(() => void rules.push({ operation, before, after, left: times })),
      refuse: (operation, times = 1) =>
        Effect.sync(() => void rules.push({ operation, before: broken(operation), after: Effect.void, left: times })),
      loseAnswer: (operation, times = 1) =>
        Effect.sync(() => void rules.push({ operation, before: Effect.void, after: broken(operation), left: times })),
      relent: Effect.sync(() => {
        rules = []
      }),
      down: Effect.sync(() => {
        isDown = true
      }),
      up: Effect.sync(() => {
        isDown = false
      }),
      raw
    })

    const storage = TokenStorage.TokenStorage.of({
      ...raw,
      find: (userUlid) => tapped("find", raw.find(userUlid)),
      claim: (request) => tapped("claim", raw.claim(request)),
      spend: (request) => tapped("spend", raw.spend(request)),
      commit: (request) => tapped("commit", raw.commit(request)),
      fail: (request) => tapped("fail", raw.fail(request)),
      seal: (request) => tapped("seal", raw.seal(request)),
      sealed: (request) => tapped("sealed", raw.sealed(request)),
      connect: (request) => tapped("connect", raw.connect(request)),
      update: (request) => tapped("update", raw.update(request)),
      disconnect: (userUlid) => tapped("disconnect", raw.disconnect(userUlid)),
      endSessions: (userUlid) => tapped("endSessions", raw.endSessions(userUlid)),
      findByAccessToken: (accessHash, only) => tapped("findByAccessToken", raw.findByAccessToken(accessHash, only)),
      claimDue: (request) => tapped("claimDue", raw.claimDue(request)),
      used: (users, precision) => tapped("used", raw.used(users, precision)),
      handedOut: (users) => tapped("handedOut", raw.handedOut(users)),
      counts: tapped("counts", raw.counts),
      activity: (since) => tapped("activity", raw.activity(since)),
      outlook: (now) => tapped("outlook", raw.outlook(now))
    })
    return Context.make(StorageTap, tap).pipe(Context.add(TokenStorage.TokenStorage, storage))
  })
)
