/** What is looked up when somebody reads metrics: how many users there are, what is open, and what Cal.com's limits leave. */
import { Clock, Effect, Option } from "effect"
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

const ofProcess = (client: typeof CalClient.Service, circuit: Circuit): Effect.Effect<Metrics.Reading> => {
  /** By client. Once its window is over, it has all of it. */
  const limits = new Map<string, number>()
  const { managed, oauth2 } = client.clients
  const clients = [
    ...Array.from(managed.all.keys(), (clientId) => ({ kind: "managed" as const, clientId })),
    ...Array.from(oauth2.all.keys(), (clientId) => ({ kind: "oauth2" as const, clientId }))
  ]
  const budget = ({ clientId, kind }: (typeof clients)[number]) =>
    Effect.map(client.rateLimit(clientId), (told) => {
      if (Option.isSome(told)) limits.set(clientId, told.value.limit)
      const limit = limits.get(clientId)
      if (limit === undefined) return []
      return [{ kind, limit, remaining: Option.isSome(told) ? told.value.remaining : limit }]
    })
  return Effect.map(Effect.forEach(clients, budget), (budgets) => ({
    circuits: { process: circuit.ownOpen() },
    budgets: budgets.flat()
  }))
}

export const make = ({
  circuit,
  client,
  storage
}: {
  readonly client: typeof CalClient.Service
  readonly storage: typeof TokenStorage.Service
  readonly circuit: Circuit
}) => Effect.zipRight(Metrics.source(storage, ofStorage(storage)), Metrics.source(circuit, ofProcess(client, circuit)))
