/**
 * What runs after a user's tokens changed: a cache to invalidate, a webhook to send, a page to render again. It stands
 * beside the token operations and never in their way: whatever happens here, tokens are stored and answered first.
 */
import { Context, Effect, Layer } from "effect"
import type { UserUlid } from "./Token.js"
import type { ReauthorizationCause } from "./TokenError.js"

/**
 * A stored change of one user's tokens. No tokens in it.
 *
 * @since 0.1.0
 * @category models
 */
export interface TokenChange {
  readonly userUlid: UserUlid
  readonly kind: "connected" | "updated" | "refreshed" | "reissued" | "disconnected" | "reauthorizationRequired"
  /** Milliseconds since the epoch. */
  readonly at: number
  /** The row's version after the change. */
  readonly version?: number | undefined
  /** Why a reconnect is needed. */
  readonly cause?: ReauthorizationCause | undefined
}

/**
 * What a program runs when tokens changed.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Told of every stored change, once, after it is durable, in a fiber of its own. It must be interruptible: one that
   * takes longer than 30 s is stopped. Its failures and defects are logged and reach nobody else. Changes of one user
   * may be told in another order than they were stored; `version` says which is newer.
   */
  readonly changed: (change: TokenChange) => Effect.Effect<void, unknown>
}

/**
 * The consumer of changes. A reference with a default, not a tag, because it is an extra: a program that has nothing to
 * run provides nothing, and `CalTokens` does not ask for it. Provide one of the layers below to the layer of
 * `CalTokens`.
 *
 * @since 0.1.0
 * @category references
 */
export class Revalidation extends Context.Reference<Revalidation>()("cal-tokens/Revalidation", {
  defaultValue: (): Service => ({ changed: () => Effect.void })
}) {}

/**
 * Runs nothing, as the default does; for switching off what an outer layer has provided.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerNoop: Layer.Layer<never> = Layer.succeed(Revalidation, { changed: () => Effect.void })

/**
 * Calls a plain function. Throwing and rejecting are failures like any other; a promise that never settles is given up
 * after the 30 s of {@link Service}. The function runs outside of any request: frameworks that need theirs (Next's
 * `revalidatePath`) are served by the `revalidate` option of `Actions`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerFromPromise = (changed: (change: TokenChange) => Promise<void> | void): Layer.Layer<never> =>
  Layer.succeed(Revalidation, {
    changed: (change) => Effect.tryPromise(async () => changed(change))
  })
