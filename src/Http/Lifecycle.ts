/** Whether this process still takes work. */
import { Context, Deferred, Effect, Layer } from "effect"

/**
 * Whether this process still takes work, and how it is told to stop.
 *
 * @since 0.1.0
 * @category tags
 */
export class Lifecycle extends Context.Tag("cal-tokens/Http/Lifecycle")<
  Lifecycle,
  {
    readonly isStopping: Effect.Effect<boolean>
    /** Returns when the shutdown begins. Answers that never end by themselves (event streams) end with it. */
    readonly stopping: Effect.Effect<void>
    /** Begins the shutdown: from now on readiness is 503 and new requests are refused. */
    readonly stop: Effect.Effect<void>
  }
>() {}

/**
 * Without a layer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make: Effect.Effect<Context.Tag.Service<Lifecycle>> = Effect.map(Deferred.make<void>(), (stopping) => ({
  isStopping: Deferred.isDone(stopping),
  stopping: Deferred.await(stopping),
  stop: Effect.asVoid(Deferred.succeed(stopping, undefined))
}))

/**
 * One for the whole server.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Lifecycle> = Layer.effect(Lifecycle, make)
