/** Processes that refresh by themselves what is due. */
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { CalTokens } from "../../src/CalTokens.js"
import * as RefreshAhead from "../../src/RefreshAhead.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import * as World from "./World.js"

/** A process with a worker: `end` ends the worker alone, `stop` both, in good order. */
export const make = (config: Partial<TokenConfig.Options> = {}) =>
  Effect.gen(function* () {
    const { stop, tokens } = yield* World.anotherNode(config)
    const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
    yield* Layer.buildWithScope(
      RefreshAhead.layer.pipe(
        Layer.provide(Layer.succeedContext(Context.make(CalTokens, tokens))),
        Layer.provide(TokenConfig.layer(config))
      ),
      scope
    )
    const end = Scope.close(scope, Exit.void)
    return { tokens, end, stop: Effect.zipRight(end, stop) }
  })
