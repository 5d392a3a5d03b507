import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Layer } from "effect"
import * as TokenConfig from "../src/TokenConfig.js"

const inForce = (layer: Layer.Layer<never, unknown> = Layer.empty) =>
  Effect.provide(
    Effect.flatMap(Effect.void, () => TokenConfig.TokenConfig),
    layer
  )

const readable = (value: unknown): unknown =>
  Duration.isDuration(value)
    ? Duration.format(value)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(Object.entries(value).map(([key, part]) => [key, readable(part)]))
      : value

describe("TokenConfig", () => {
  it("documents its defaults by this list", () => {
    assert.deepStrictEqual(readable(TokenConfig.defaults), {
      windows: { soon: "5m", soonFraction: 0.25, due: "1m", dueFraction: 0.1 },
      dueWait: "5s",
      callerWait: "25s",
      callTimeout: "8s",
      lateAnswerWait: "30s",
      attemptTimeout: "20s",
      lease: "30s",
      pollInterval: "250ms",
      probeDelayExpired: "5s",
      probeDelayValid: "1m",
      latePairWait: "8s",
      cooldownWindow: "30s",
      maxAttempts: 3,
      backoffMin: "2s",
      backoffMax: "1m",
      rejectedInterval: "30s",
      youngToken: "10s",
      youngTokenDelay: "500ms",
      circuitInterval: "30s",
      brakeRejections: 5,
      brakeWindow: "1m",
      aheadActiveFor: "4h",
      aheadSpread: 0.25,
      aheadConcurrency: 8,
      aheadInterval: "2s",
      keepAliveMargin: "7d",
      backgroundReserve: 0.25,
      memoryMaxAge: "5s",
      memoryMaxEntries: 100_000,
      shutdownWait: "30s"
    })
  })

  it("has defaults that fit together", () => {
    const config = TokenConfig.defaults
    const inOrder = (...durations: ReadonlyArray<Duration.Duration>) =>
      durations.every((duration, i) => i === 0 || Duration.lessThan(durations[i - 1]!, duration))
    // A call ends within its attempt, the attempt within its lease; waiters outlast one attempt.
    assert.isTrue(inOrder(config.callTimeout, config.attemptTimeout, config.callerWait, config.lease))
    assert.isTrue(inOrder(config.dueWait, config.callTimeout))
    assert.isTrue(inOrder(config.windows.due, config.windows.soon))
    assert.isTrue(inOrder(config.backoffMin, config.backoffMax))
    // Whose turn comes first keeps a token for half of its life.
    assert.isAtMost(config.windows.soonFraction + config.aheadSpread, 0.5)
    assert.isTrue(inOrder(config.pollInterval, config.probeDelayExpired, config.probeDelayValid))
  })

  it.effect("is there without a layer", () =>
    Effect.gen(function* () {
      // Of a program that has the module twice, as bundles of Next do, the first one's.
      assert.deepStrictEqual(yield* inForce(), TokenConfig.defaults)
    })
  )

  it.effect("replaces what it is given and nothing else", () =>
    Effect.gen(function* () {
      const lease = Duration.seconds(7)
      const config = yield* inForce(TokenConfig.layer({ lease, maxAttempts: 9 }))
      assert.deepStrictEqual(config, { ...TokenConfig.defaults, lease, maxAttempts: 9 })
    })
  )

  it.effect("reads numbers from configuration", () =>
    Effect.gen(function* () {
      const layer = TokenConfig.layerConfig({
        lease: Config.duration("LEASE"),
        maxAttempts: Config.integer("MAX_ATTEMPTS"),
        windows: {
          soon: Config.duration("SOON"),
          soonFraction: Config.succeed(0.5),
          due: Config.succeed(Duration.seconds(1)),
          dueFraction: Config.number("DUE_FRACTION")
        }
      })
      const provide = (entries: ReadonlyArray<readonly [string, string]>) =>
        inForce(Layer.provide(layer, Layer.setConfigProvider(ConfigProvider.fromMap(new Map(entries)))))
      const entries = [
        ["LEASE", "10 seconds"],
        ["MAX_ATTEMPTS", "4"],
        ["SOON", "2 minutes"],
        ["DUE_FRACTION", "0.2"]
      ] as const
      const config = yield* provide(entries)
      assert.deepStrictEqual(readable(config), {
        ...(readable(TokenConfig.defaults) as object),
        lease: "10s",
        maxAttempts: 4,
        windows: { soon: "2m", soonFraction: 0.5, due: "1s", dueFraction: 0.2 }
      })
      assert.include(String(yield* Effect.flip(provide(entries.slice(1)))), "LEASE")
      assert.include(String(yield* Effect.flip(provide([...entries, ["MAX_ATTEMPTS", "many"]]))), "MAX_ATTEMPTS")
    })
  )
})
