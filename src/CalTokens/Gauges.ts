/** What is looked up when somebody reads metrics: how many users there are, what is open, and what Cal.com's limits leave. */
import { Clock, Effect } from "effect"
import type { CalClient } from "../CalClient.js"
import * as Metrics from "../Metrics.js"
import type { TokenStorage } from "../TokenStorage.js"
import type { Circuit } from "./Circuit.js"

/** In milliseconds: whoever reads metrics more often than that asks the storage no more often. */
const maxAge = 10_000

/** Whoever reads metrics shall not wait longer for a storage that is in trouble: what it said last is told again. */
const patience = "2 seconds"

const ofStorage = (storage: typeof TokenStorage.Service): Effect.Effect<Metrics.Reading> => {
  let known: Metrics.Reading = {}
  let askedAt = -Infinity
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    if (now >= askedAt && now < askedAt + maxAge) return Effect.succeed(known)
    askedAt = now
    return storage.counts.pipe(
      Effect.timeout(patience),
      Effect.map((counts) => (known = counts)),
      Effect.orElseSucceed(() => known)
    )
  })
}

const ofProcess = (client: typeof CalClient.Service, circuit: Circuit): Effect.Effect<Metrics.Reading> =>
  Effect.map(client.budgets, (budgets) => ({ circuits: { process: circuit.ownOpen().length }, budgets }))

export const make = ({
  circuit,
  client,
  storage
}: {
  readonly client: typeof CalClient.Service
  readonly storage: typeof TokenStorage.Service
  readonly circuit: Circuit
}) => Effect.zipRight(Metrics.source(storage, ofStorage(storage)), Metrics.source(circuit, ofProcess(client, circuit)))
