/**
 * The log of changes as it grows, for any number of readers. Each keeps its own place and takes pages when it is ready for
 * them, so a slow one holds nothing but its place. News of writes make readers look at once; without any they look every
 * two seconds.
 */
import { Chunk as Chunks, Clock, Context, Duration, Effect, Option, PubSub, Queue, RcRef, Stream } from "effect"
import type { Scope } from "effect"
import { CalTokens } from "../CalTokens.js"
import type { StorageUnavailable } from "../TokenError.js"
import { TokenStorage } from "../TokenStorage.js"
import type { Cursor, LoggedChange, Page } from "../TokenStorage/ChangeLog.js"

export interface Options {
  /** How long a change stays unnoticed at most, when no news of it come. */
  readonly pollInterval: Duration.Duration
  /** How long a reader is told nothing at most. */
  readonly heartbeat: Duration.Duration
  /** After news, so long until readers look: news come in swarms. */
  readonly gather: Duration.Duration
  /** How long a page may take, the wait for a turn included: with the database silent, readers are told so in time. */
  readonly readTimeout: Duration.Duration
  readonly pageSize: number
  /** So many readers in this process at once. */
  readonly maxReaders: number
}

export const defaults: Options = {
  pollInterval: Duration.seconds(2),
  heartbeat: Duration.seconds(15),
  gather: Duration.millis(50),
  readTimeout: Duration.seconds(5),
  pageSize: 100,
  maxReaders: 64
}

/** The numbers in force. */
export class EventConfig extends Context.Reference<EventConfig>()("cal-tokens/Http/EventConfig", {
  defaultValue: () => defaults
}) {}

export type Item =
  | { readonly _tag: "Change"; readonly change: LoggedChange }
  /** Changes are missing before this. */
  | { readonly _tag: "Reset"; readonly position: string }
  /** Nothing happened. */
  | { readonly _tag: "Rest"; readonly position: string }

export interface EventFeed {
  /** A place among the readers, until the scope ends; `false` when all are taken. */
  readonly enter: Effect.Effect<boolean, never, Scope.Scope>
  /** Begins with `Rest`, `Reset` or the changes after a position, and never ends. Fails only before it begins. */
  readonly follow: (position: Option.Option<string>) => Effect.Effect<Stream.Stream<Item>, StorageUnavailable>
}

interface State {
  readonly cursor: Cursor
  readonly position: string
  /** There is more to read at once. */
  readonly isBehind: boolean
  /** When the reader was last told something, in ms. */
  readonly toldAt: number
}

export const make: Effect.Effect<EventFeed, never, TokenStorage | CalTokens | Scope.Scope> = Effect.gen(function* () {
  const config = yield* EventConfig
  const storage = yield* TokenStorage
  const tokens = yield* CalTokens
  // Readers share one connection of the pool at most: tokens come first.
  const turns = yield* Effect.makeSemaphore(1)
  let readers = 0

  /** Held while there are readers, for the storage's news may cost a connection. */
  const news = yield* RcRef.make({
    acquire: Effect.gen(function* () {
      const pubsub = yield* PubSub.sliding<void>(1)
      const tell = () => PubSub.publish(pubsub, undefined)
      for (const stream of [tokens.changes, storage.notices]) {
        // Of news that end only the haste is lost.
        yield* Effect.forkScoped(
          Effect.catchAllCause(
            Stream.runForEach<unknown, never, never, boolean, never, never>(stream, tell),
            () => Effect.void
          )
        )
      }
      return pubsub
    }),
    idleTimeToLive: Duration.seconds(5)
  })

  const read = (cursor: Cursor) => turns.withPermits(1)(storage.log.read(cursor, config.pageSize))

  const restart = Effect.map(turns.withPermits(1)(storage.log.end), (cursor) => ({
    cursor,
    position: cursor.position,
    isBehind: false
  }))

  const advance = (page: Option.Option<Page>) =>
    Effect.gen(function* () {
      const toldAt = yield* Clock.currentTimeMillis
      if (Option.isNone(page)) {
        const state: State = { ...(yield* restart), toldAt }
        return { items: Chunks.of<Item>({ _tag: "Reset", position: state.position }), state }
      }
      const { changes, next, position } = page.value
      const state: State = { cursor: next, position, isBehind: changes.length === config.pageSize, toldAt }
      return { items: Chunks.fromIterable(changes.map((change): Item => ({ _tag: "Change", change }))), state }
    })

  const rest = (state: State): Item => ({ _tag: "Rest", position: state.position })

  /** What a reader is told next, perhaps nothing. */
  const step = (heard: Queue.Dequeue<void>) => (state: State) =>
    Effect.gen(function* () {
      if (!state.isBehind) {
        const silent = (yield* Clock.currentTimeMillis) - state.toldAt
        const patience = Duration.min(
          config.pollInterval,
          Duration.millis(Duration.toMillis(config.heartbeat) - silent)
        )
        const isNews = Option.isSome(yield* Effect.timeoutOption(Queue.take(heard), patience))
        if (isNews) yield* Effect.zipRight(Effect.sleep(config.gather), Queue.takeAll(heard))
      }
      // While the storage is away there is nothing to tell.
      const next = yield* Effect.option(Effect.flatMap(Effect.timeout(read(state.cursor), config.readTimeout), advance))
      const { items, state: found } = Option.getOrElse(next, () => ({
        items: Chunks.empty<Item>(),
        state: { ...state, isBehind: false }
      }))
      if (Chunks.isNonEmpty(items)) return [items, Option.some(found)] as const
      const now = yield* Clock.currentTimeMillis
      return now - state.toldAt < Duration.toMillis(config.heartbeat)
        ? ([Chunks.empty<Item>(), Option.some({ ...found, toldAt: state.toldAt })] as const)
        : ([Chunks.of(rest(found)), Option.some({ ...found, toldAt: now })] as const)
    })

  const begin = (position: Option.Option<string>) =>
    Option.match(position, {
      onNone: () =>
        Effect.map(Effect.all([restart, Clock.currentTimeMillis]), ([start, toldAt]) => {
          const state: State = { ...start, toldAt }
          return { items: Chunks.of(rest(state)), state }
        }),
      onSome: (position) => Effect.flatMap(read({ position }), advance)
    })

  return {
    enter: Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => readers < config.maxReaders && (readers += 1) > 0),
        (isIn) =>
          Effect.sync(() => {
            if (isIn) readers -= 1
          })
      ),
      (isIn) => isIn
    ),
    follow: (position) =>
      Effect.map(begin(position), ({ items, state }) =>
        Stream.concat(
          Stream.fromChunk(items),
          Stream.unwrapScoped(
            Effect.map(Effect.flatMap(RcRef.get(news), PubSub.subscribe), (heard) =>
              Stream.paginateChunkEffect(state, step(heard))
            )
          )
        )
      )
  }
})
