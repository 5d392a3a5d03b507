/** A process of the service, one after the other in the same place of the fleet. */
import { Deferred, Duration, Effect, Schema, type Scope } from "effect"
import * as Child from "./Child.js"
import type { Sample } from "./probe.js"

export interface Service {
  readonly slot: number
  readonly url: string
  /** Whether it is given requests. */
  isIn: boolean
  readonly samples: ReadonlyArray<Sample>
  readonly end: (signal: NodeJS.Signals) => Effect.Effect<Child.Exit>
  readonly tail: () => string
}

const startsWithin = Duration.seconds(60)
/** Longer than a shutdown may take. */
const endsWithin = Duration.seconds(60)

const Line = Schema.parseJson(Schema.Struct({ message: Schema.String }))
const isListening = /^Listening on (http:\S+)$/

export const start = (options: {
  readonly slot: number
  readonly program: string
  readonly probe: string
  readonly env: Readonly<Record<string, string>>
}): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const url = yield* Deferred.make<string>()
    const child = yield* Child.make(options.program, {
      arguments: ["serve"],
      flags: ["--import", options.probe],
      env: options.env,
      onLine: (line) => {
        if (!line.includes("Listening on ")) return
        const [, found] = isListening.exec(Schema.decodeSync(Line)(line).message) ?? []
        if (found !== undefined) Deferred.unsafeDone(url, Effect.succeed(found))
      }
    })
    const samples: Array<Sample> = []
    child.process.on("message", (sample: Sample) => samples.push(sample))
    return {
      slot: options.slot,
      url: yield* Deferred.await(url).pipe(
        Effect.raceFirst(Effect.flatMap(child.exit, () => Effect.dieMessage(`a process ended:\n${child.tail()}`))),
        Effect.timeoutFail({ duration: startsWithin, onTimeout: () => `a process does not start:\n${child.tail()}` }),
        Effect.orDie
      ),
      isIn: true,
      samples,
      end: (signal) =>
        Effect.zipRight(
          Effect.sync(() => child.process.kill(signal)),
          Effect.timeoutFail(child.exit, {
            duration: endsWithin,
            onTimeout: () => `a process does not end:\n${child.tail()}`
          })
        ).pipe(Effect.orDie),
      tail: child.tail
    }
  })
