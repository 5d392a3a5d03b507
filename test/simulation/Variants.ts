/** The system with one rule left out, to see whether the simulator misses it. Nothing in `src` knows of this. */
import { Deferred, Duration, Effect, Option } from "effect"
import { CallFailure, type CalClient, type Grant } from "../../src/CalClient.js"
import { CalUnavailable } from "../../src/TokenError.js"
import { AttemptFailure, CommitResult, type TokenStorage } from "../../src/TokenStorage.js"
import * as Memory from "../../src/TokenStorage/Memory.js"
import * as Rows from "../../src/TokenStorage/Rows.js"
import type { Variant } from "./Fleet.js"
import type { Node, World } from "./World.js"

type Storage = TokenStorage["Type"]

const rows = (replaced: Partial<Memory.Transitions>): Variant => ({ storage: () => Memory.make(replaced) })

const refresh = (
  replace: (
    client: typeof CalClient.Service,
    connection: Parameters<(typeof CalClient.Service)["refresh"]>[0],
    outcome: Effect.Effect<Grant, CallFailure>
  ) => Effect.Effect<Grant, CallFailure>
): Variant => ({
  client: (_world: World, _node: Node, client) => ({
    ...client,
    refresh: (connection, token) => replace(client, connection, client.refresh(connection, token))
  })
})

/** Calls of a node fail when a caller of that node gives up. */
const singleFlight = (): Variant => {
  const running = new Map<Node, Set<Deferred.Deferred<never, CallFailure>>>()
  const cut = CallFailure.Unknown({ error: new CalUnavailable({ operation: "refresh", reason: "the caller gave up" }) })
  return {
    client: (_world, node, client) => ({
      ...client,
      refresh: (connection, token) =>
        Effect.gen(function* () {
          const given = yield* Deferred.make<never, CallFailure>()
          const calls = running.get(node) ?? new Set()
          running.set(node, calls.add(given))
          return yield* Effect.raceFirst(client.refresh(connection, token), Deferred.await(given)).pipe(
            Effect.ensuring(Effect.sync(() => calls.delete(given)))
          )
        })
    }),
    onInterrupted: (node) => {
      for (const call of running.get(node) ?? []) Deferred.unsafeDone(call, Effect.fail(cut))
    }
  }
}

export const variants: Readonly<Record<string, () => Variant>> = {
  "commit without the attempt-id condition": () =>
    rows({
      commit: (row, request, now, version, isFree) =>
        Rows.commit({ ...row, attemptId: request.attemptId }, request, now, version, isFree)
    }),
  "no late pairs": () =>
    rows({
      commit: (row, request, now, version, isFree) =>
        row.attemptId === request.attemptId
          ? Rows.commit(row, request, now, version, isFree)
          : [CommitResult.Discarded(), row]
    }),
  "no fallbacks": () =>
    rows({
      commit: (row, request, now, version, isFree) => {
        const [result, next] = Rows.commit(row, request, now, version, isFree)
        return result._tag === "KeptAsFallback" ? [CommitResult.Discarded(), row] : [result, { ...next, fallbacks: [] }]
      },
      connect: (row, request, now, version) => ({ ...Rows.connect(row, request, now, version), fallbacks: [] })
    }),
  "no journal": () =>
    rows({
      claim: (row, request, now) => Rows.claim({ ...row, journal: null, probeNotBefore: null }, request, now)
    }),
  // The second and last look at the row is the one before the next token: without it, a loser goes on spending.
  "no re-read before failing": () =>
    rows({ spend: (row, request) => [Option.some(Rows.toStored(row)), Rows.spend(row, request)[1]] }),
  "an immediate probe": () => ({
    config: { probeDelayExpired: Duration.zero, probeDelayValid: Duration.zero }
  }),
  "a lease shorter than the work": () => ({ config: { lease: Duration.seconds(3) } }),
  "a single flight that is cancelled with its first caller": singleFlight,
  "reissue on any error": () =>
    refresh((client, connection, outcome) =>
      connection._tag === "ManagedUser" ? Effect.catchAll(outcome, () => client.reissue(connection)) : outcome
    ),
  "5xx taken as not spent": () =>
    refresh((_client, _connection, outcome) =>
      Effect.catchTag(outcome, "Unknown", (failure) =>
        Effect.fail(
          failure.error._tag === "CalUnavailable" && (failure.error.status ?? 0) >= 500
            ? CallFailure.NotSpent({ error: failure.error })
            : failure
        )
      )
    ),
  "a failure written without its condition": () =>
    rows({ fail: (row, request, now) => Rows.fail({ ...row, attemptId: request.attemptId }, request, now) }),
  "a cooldown only in memory": () => ({
    storage: (storage: Storage): Storage => ({
      ...storage,
      claim: (request) => storage.claim({ ...request, maxAttempts: Infinity, rejectedInterval: undefined }),
      fail: (request) =>
        storage.fail({
          ...request,
          failure: AttemptFailure.$match(request.failure, {
            NotSpent: ({ error }) => AttemptFailure.NotSpent({ error, backoff: Duration.zero }),
            Unknown: ({ error, probeIn }) => AttemptFailure.Unknown({ error, probeIn, backoff: Duration.zero }),
            Terminal: (failure) => failure,
            Released: (failure) => failure
          })
        })
    })
  })
}
