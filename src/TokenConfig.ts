/**
 * Every number of the refresh rules, as one service. A program that provides nothing gets {@link defaults}.
 */
import { Config, Context, Duration, Effect, Layer } from "effect"
import type { Windows } from "./Token.js"

/**
 * The numbers. Durations are real time, judged by Effect's `Clock` or, for lease and cooldown, by the storage's clock.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** When a token counts as expiring soon (background refresh) and as due (the caller waits a little). */
  readonly windows: Windows
  /** How long `ensureValid` waits for a refresh while the token is due but still valid. */
  readonly dueWait: Duration.Duration
  /** How long any caller waits at most before it is told to come back. */
  readonly callerWait: Duration.Duration
  /** How long one call to a token endpoint may take. */
  readonly callTimeout: Duration.Duration
  /** How long an answer is still listened for after its call timed out: it may hold the only live refresh token. */
  readonly lateAnswerWait: Duration.Duration
  /** How long one attempt (claim, fallbacks, probe, reissue) may take in all. Must be shorter than the lease. */
  readonly attemptTimeout: Duration.Duration
  /** How long a claim keeps other processes away. */
  readonly lease: Duration.Duration
  /** Waiters on another process's refresh look again after between half of this and this. */
  readonly pollInterval: Duration.Duration
  /** After an unknown outcome with a dead access token: the wait before the refresh token is probed. */
  readonly probeDelayExpired: Duration.Duration
  /** The same while the access token lives. */
  readonly probeDelayValid: Duration.Duration
  /**
   * Before a person is asked to reconnect after an unknown outcome, or when tokens that had been displaced are refused:
   * the wait for a process that may hold the new pair.
   */
  readonly latePairWait: Duration.Duration
  /** At most `maxAttempts` attempts start within this time, successes included. */
  readonly cooldownWindow: Duration.Duration
  readonly maxAttempts: number
  /** First and longest back-off after consecutive failures; it doubles in between, with equal jitter. */
  readonly backoffMin: Duration.Duration
  readonly backoffMax: Duration.Duration
  /** A rejected token that does not look expired causes at most one refresh in this time. */
  readonly rejectedInterval: Duration.Duration
  /** A rejected token younger than this is repeated first: Cal.com reads from replicas. */
  readonly youngToken: Duration.Duration
  /** The wait before that repetition. */
  readonly youngTokenDelay: Duration.Duration
  /** How long a client's circuit stays open before one refresh is let through. */
  readonly circuitInterval: Duration.Duration
  /** So many users refused for good within `brakeWindow`, and more than half of all refreshes, opens the circuit. */
  readonly brakeRejections: number
  readonly brakeWindow: Duration.Duration
  /** Users of whom somebody asked within this time are active: their tokens are refreshed before anybody waits. */
  readonly aheadActiveFor: Duration.Duration
  /** Share of a token's lifetime over which those refreshes are spread, each user's at a time of its own. */
  readonly aheadSpread: number
  /** So many of them a process has under way at once. */
  readonly aheadConcurrency: number
  /** How long a process that found nothing due waits before it looks again. */
  readonly aheadInterval: Duration.Duration
  /** How long before a refresh token expires it is spent, for users who are not active; at most a quarter of its life. */
  readonly keepAliveMargin: Duration.Duration
  /** Share of Cal.com's rate limit that background refreshes leave to people who wait. */
  readonly backgroundReserve: number
  /** An entry in memory older than this is read again before use. */
  readonly memoryMaxAge: Duration.Duration
  /** How many users are kept in memory. */
  readonly memoryMaxEntries: number
  /** How long a shutdown waits for pairs that are not stored yet. */
  readonly shutdownWait: Duration.Duration
}

/**
 * The numbers unless others are given.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults: Options = {
  windows: { soon: Duration.minutes(5), soonFraction: 0.25, due: Duration.seconds(60), dueFraction: 0.1 },
  dueWait: Duration.seconds(5),
  callerWait: Duration.seconds(25),
  callTimeout: Duration.seconds(8),
  lateAnswerWait: Duration.seconds(30),
  attemptTimeout: Duration.seconds(20),
  lease: Duration.seconds(30),
  pollInterval: Duration.millis(250),
  probeDelayExpired: Duration.seconds(5),
  probeDelayValid: Duration.seconds(60),
  latePairWait: Duration.seconds(8),
  cooldownWindow: Duration.seconds(30),
  maxAttempts: 3,
  backoffMin: Duration.seconds(2),
  backoffMax: Duration.seconds(60),
  rejectedInterval: Duration.seconds(30),
  youngToken: Duration.seconds(10),
  youngTokenDelay: Duration.millis(500),
  circuitInterval: Duration.seconds(30),
  brakeRejections: 5,
  brakeWindow: Duration.seconds(60),
  aheadActiveFor: Duration.hours(4),
  aheadSpread: 0.25,
  aheadConcurrency: 8,
  aheadInterval: Duration.seconds(2),
  keepAliveMargin: Duration.days(7),
  backgroundReserve: 0.25,
  memoryMaxAge: Duration.seconds(5),
  memoryMaxEntries: 100_000,
  shutdownWait: Duration.seconds(30)
}

/**
 * The numbers in force.
 *
 * @since 0.1.0
 * @category references
 */
export class TokenConfig extends Context.Reference<TokenConfig>()("cal-tokens/TokenConfig", {
  defaultValue: () => defaults
}) {}

/**
 * The defaults with some numbers replaced.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Partial<Options>): Layer.Layer<never> =>
  Layer.succeed(TokenConfig, { ...defaults, ...options })

/**
 * Numbers to replace, of the windows too.
 *
 * @since 0.1.0
 * @category models
 */
export interface Changes extends Omit<Partial<Options>, "windows"> {
  readonly windows?: Partial<Options["windows"]> | undefined
}

/**
 * The given numbers with some replaced.
 *
 * @since 0.1.0
 * @category conversions
 */
export const change = (config: Options, { windows, ...options }: Changes): Options => ({
  ...config,
  ...options,
  windows: { ...config.windows, ...windows }
})

/**
 * The numbers that are in force, with some replaced.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerChanged = (changes: Changes): Layer.Layer<never> =>
  Layer.unwrapEffect(Effect.map(TokenConfig, (config) => Layer.succeed(TokenConfig, change(config, changes))))

/**
 * The defaults with some numbers read from configuration.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = (config: Config.Config.Wrap<Partial<Options>>) =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layer))
