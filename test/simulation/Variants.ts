/** The system with one rule left out, to see whether the simulator misses it. Nothing in `src` knows of this. */
import { Deferred, Duration, Effect, Option } from "effect"
import { CallFailure, type CalClient, type Grant } from "../../src/CalClient.js"
import { CalProtocolError, CalUnavailable } from "../../src/TokenError.js"
import {
  AttemptFailure,
  type CircuitRequest,
  ClaimResult,
  type CommitRequest,
  CommitResult,
  Purpose,
  type StoredRow,
  type TokenStorage
} from "../../src/TokenStorage.js"
import * as Memory from "../../src/TokenStorage/Memory.js"
import * as Rows from "../../src/TokenStorage/Rows.js"
import { hash, type ManagedUser } from "../../src/Token.js"
import type { Variant } from "./Fleet.js"
import type { Node, World } from "./World.js"

type Storage = TokenStorage["Type"]

/** The pair that a row has already, as if it had been read in a sealed answer: all it does is to close a circuit. */
const nothingNew = ({ connection, pair, userUlid }: StoredRow): CommitRequest => ({
  userUlid,
  connection,
  pair,
  attemptId: "nobody's",
  seen: "none",
  dead: [],
  unsealed: "none"
})

const rows = (replaced: Partial<Memory.Transitions>): Variant => ({ storage: () => Memory.make(replaced) })

/** The row as an import sees it. */
const takeOver = (seen: (row: Rows.Row) => Rows.Row): Variant =>
  rows({
    takeOver: (row, ...event) => {
      const [result, next] = Rows.takeOver(Option.map(row, seen), ...event)
      return [result, "row" in result ? next : row]
    }
  })

const hashOf = ({ pair }: Rows.Row) => hash(pair.refreshToken)

const refresh = (
  replace: (
    client: typeof CalClient.Service,
    connection: Parameters<(typeof CalClient.Service)["refresh"]>[0],
    outcome: Effect.Effect<Grant, CallFailure>
  ) => Effect.Effect<Grant, CallFailure>
): Variant => ({
  client: (_world: World, _node: Node, client) => ({
    ...client,
    refresh: (connection, token, kept) => replace(client, connection, client.refresh(connection, token, kept))
  })
})

/** Circuits under other keys than the client and its secret. */
const circuitsBy = (keyOf: (node: string, fingerprint: string) => string): Variant => ({
  storageOf: ({ name }, storage) => {
    const own = <A extends { readonly circuit?: CircuitRequest | undefined }>(request: A): A => {
      const { circuit } = request
      return circuit === undefined
        ? request
        : { ...request, circuit: { ...circuit, fingerprint: keyOf(name, circuit.fingerprint) } }
    }
    return {
      ...storage,
      claim: (request) => storage.claim(own(request)),
      commit: (request) => storage.commit(own(request)),
      fail: (request) => storage.fail(own(request)),
      connect: (request) => storage.connect(own(request)),
      seal: (request) => storage.seal(request.drift === undefined ? request : { ...request, drift: own(request.drift) })
    }
  }
})

/** Calls of a node fail when a caller of that node gives up. */
const singleFlight = (): Variant => {
  const running = new Map<Node, Set<Deferred.Deferred<never, CallFailure>>>()
  const cut = CallFailure.Unknown({ error: new CalUnavailable({ operation: "refresh", reason: "the caller gave up" }) })
  return {
    client: (_world, node, client) => ({
      ...client,
      refresh: (connection, token, kept) =>
        Effect.gen(function* () {
          const given = yield* Deferred.make<never, CallFailure>()
          const calls = running.get(node) ?? new Set()
          running.set(node, calls.add(given))
          return yield* Effect.raceFirst(client.refresh(connection, token, kept), Deferred.await(given)).pipe(
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
  "a decoder that insists on the expiry": () =>
    refresh((_client, _connection, outcome) =>
      Effect.filterOrFail(
        outcome,
        ({ departures }) => !departures.includes("expiry"),
        () => CallFailure.Unknown({ error: new CalProtocolError({ operation: "refresh", issue: "no expiry" }) })
      )
    ),
  "a decoder that does not ask whose a pair is": () => ({
    client: (_world, _node, client) => ({
      ...client,
      refresh: (connection, token, kept) =>
        connection._tag === "OAuth2"
          ? client.refresh({ _tag: "OAuth2", clientId: connection.clientId }, token)
          : client.refresh(connection, token, kept)
    })
  }),
  "an answer that is thrown away where it cannot be read": () => ({
    storage: (storage: Storage): Storage => ({
      ...storage,
      seal: () => Effect.succeed(true),
      fail: (request) =>
        storage.fail(
          request.failure._tag === "Unknown"
            ? { ...request, failure: { ...request.failure, sealed: undefined } }
            : request
        )
    })
  }),
  "a sealed answer that is read after the probe": () => ({
    storageOf: (_node, storage) => ({
      ...storage,
      sealed: () => Effect.succeed([]),
      claim: (request) =>
        Effect.map(storage.claim(request), (result) =>
          result._tag === "Claimed" || result._tag === "Held" ? { ...result, sealed: [] } : result
        )
    })
  }),
  "a circuit per process": () => circuitsBy((name, fingerprint) => `${name} ${fingerprint}`),
  "a circuit for whatever secret a process has": () => circuitsBy(() => "all"),
  "one of two secrets": () => ({ hasBothSecrets: false }),
  "drift that a rejection closes": () => ({
    storage: (storage: Storage): Storage => ({
      ...storage,
      fail: (request) =>
        Effect.tap(storage.fail(request), (result) =>
          request.failure._tag === "Terminal" && result._tag !== "NotRecorded"
            ? storage.commit({ ...nothingNew(result.row), circuit: request.circuit })
            : Effect.void
        )
    })
  }),
  "a claim that ignores its account": () =>
    rows({
      claim: (row, request, now) =>
        Rows.claim(
          row,
          request.purpose._tag === "Reissue"
            ? { ...request, purpose: { ...request.purpose, account: row.connection as ManagedUser } }
            : request,
          now
        )
    }),
  "a refresh that answers who asks for a reissue": () =>
    rows({
      claim: (row, request, now) =>
        request.purpose._tag === "Reissue" && row.version > request.purpose.knownVersion
          ? [ClaimResult.Newer({ row: Rows.toStored(row) }), row]
          : Rows.claim(row, request, now)
    }),
  "a reissue that no other answers": () =>
    rows({ claim: (row, request, now) => Rows.claim({ ...row, reissuedVersion: null }, request, now) }),
  "a refresh ahead of somebody whose lease runs": () =>
    rows({
      claim: (row, request, now) =>
        Rows.claim(
          request.purpose._tag === "Ahead" ? { ...row, attemptId: null, journal: null, probeNotBefore: null } : row,
          request,
          now
        )
    }),
  "refreshes ahead that take the trials": () => ({
    storageOf: (_node, storage) => ({
      ...storage,
      claimDue: (request) => storage.claimDue({ ...request, circuit: { ...request.circuit, fingerprint: "nobody's" } })
    })
  }),
  "an import that overwrites what was refreshed here": () => takeOver((row) => ({ ...row, importedHash: hashOf(row) })),
  "an import of older pairs": () =>
    takeOver((row) => ({ ...row, pair: { ...row.pair, issuedAt: undefined, accessTokenExpiresAt: 0 } })),
  "an import that ends the attempt with its pair": () =>
    rows({
      takeOver: (row, request, ...rest) => {
        const [result, next] = Rows.takeOver(row, request, ...rest)
        return [
          result,
          Option.map(next, (next) => ({
            ...next,
            attemptId: null,
            leaseUntil: null,
            journal: null,
            probeNotBefore: null
          }))
        ]
      }
    }),
  "an import that nobody remembers": () =>
    rows({
      takeOver: (...event) => {
        const [result, next] = Rows.takeOver(...event)
        return [result, Option.map(next, (next) => ({ ...next, importedAt: null }))]
      }
    }),
  "a failure written without its condition": () =>
    rows({ fail: (row, request, now) => Rows.fail({ ...row, attemptId: request.attemptId }, request, now) }),
  "a cooldown only in memory": () => ({
    storage: (storage: Storage): Storage => ({
      ...storage,
      claim: (request) =>
        storage.claim({
          ...request,
          maxAttempts: Infinity,
          purpose:
            request.purpose._tag === "Refresh"
              ? Purpose.Refresh({ knownVersion: request.purpose.knownVersion })
              : request.purpose
        }),
      fail: (request) =>
        storage.fail({
          ...request,
          failure: AttemptFailure.$match(request.failure, {
            NotSpent: (failure) => ({ ...failure, backoff: Duration.zero }),
            Unknown: (failure) => ({ ...failure, backoff: Duration.zero }),
            Terminal: (failure) => failure,
            Released: (failure) => failure
          })
        })
    })
  })
}
