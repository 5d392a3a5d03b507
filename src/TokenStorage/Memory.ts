/**
 * The storage port in memory: the transitions of `Rows.ts` over plain maps. Each call is one synchronous step, so it is
 * as atomic as a database statement. Good for tests and for a single process that may forget everything at its end.
 */
import { randomUUID } from "node:crypto"
import { Duration, Effect, Layer, Option, Stream } from "effect"
import type { Event } from "../History.js"
import { type Connection, hash, type UserUlid } from "../Token.js"
import { CalAccountInUse } from "../TokenError.js"
import {
  type CircuitRequest,
  ClaimResult,
  type ClaimRequest,
  CommitResult,
  type Drift,
  type DueClaim,
  FailResult,
  type FailRequest,
  hashAnswer,
  type ImportResult,
  maxSealed,
  maxPutOff,
  maxVisits,
  Purpose,
  quiet,
  type NewSealedAnswer,
  sealedFor,
  type SealedAnswer,
  TokenStorage
} from "../TokenStorage.js"
import * as Activity from "./Activity.js"
import type { ChangeKind } from "./ChangeLog.js"
import * as ChangeLogMemory from "./ChangeLogMemory.js"
import * as Circuits from "./Circuits.js"
import * as HistoryMemory from "./HistoryMemory.js"
import * as Lookups from "./Lookups.js"
import * as Rows from "./Rows.js"

/** The transitions of a row, some of which tests replace. */
export type Transitions = Pick<typeof Rows, "claim" | "spend" | "commit" | "fail" | "connect" | "takeOver">

export const make = (replaced: Partial<Transitions> = {}): TokenStorage["Type"] => {
  const { claim, commit, connect, fail, spend, takeOver }: Transitions = { ...Rows, ...replaced }
  const rows = new Map<UserUlid, Rows.Row>()
  const accounts = new Map<string, UserUlid>()
  /** By an access token's key: whose look-ups have it. */
  const owners = new Map<string, Set<UserUlid>>()
  /** By user, then by what was answered for which refresh token, in the order in which they came. */
  const sealed = new Map<UserUlid, ReadonlyMap<string, SealedAnswer>>()
  const circuits = new Map<string, Circuits.OpenCircuit>()
  /** When a circuit closed last. */
  const closedAt = new Map<string, number>()
  /** When one of these closed last that was open because of an answer nobody understood. */
  const driftEndedAt = new Map<string, number>()
  let lastVersion = 0
  const log = ChangeLogMemory.make()
  const histories = HistoryMemory.make()

  const step = <A, E = never>(f: (now: number) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.clockWith((clock) => f(clock.unsafeCurrentTimeMillis()))

  const isFreeFor = (userUlid: UserUlid) => (connection: Connection) => {
    const owner = accounts.get(accountKey(connection))
    return owner === undefined || owner === userUlid
  }

  const setAccount = (row: Rows.Row, before: Rows.Row | undefined) => {
    if (before !== undefined) accounts.delete(accountKey(before.connection))
    if (row.connection.calUserId !== undefined) accounts.set(accountKey(row.connection), row.userUlid)
  }

  const setOwners = (userUlid: UserUlid, before: Lookups.Lookups, next: Lookups.Lookups) => {
    for (const { key } of before) {
      const users = owners.get(key)
      users?.delete(userUlid)
      if (users?.size === 0) owners.delete(key)
    }
    for (const { key } of next) owners.set(key, (owners.get(key) ?? new Set()).add(userUlid))
  }

  const remove = (userUlid: UserUlid, now: number): boolean => {
    const row = rows.get(userUlid)
    if (row === undefined) return false
    log.removed(row, now)
    accounts.delete(accountKey(row.connection))
    setOwners(userUlid, row.lookups, [])
    sealed.delete(userUlid)
    histories.remove(userUlid)
    return rows.delete(userUlid)
  }

  /** Makes a pair the row's. */
  const store = (row: Rows.Row, kind: ChangeKind, now: number) => {
    const before = rows.get(row.userUlid)
    log.written(before, row, now, kind)
    lastVersion = row.version
    rows.set(row.userUlid, row)
    setAccount(row, before)
    setOwners(row.userUlid, before?.lookups ?? [], row.lookups)
    return Rows.toConnection(row)
  }

  /** Runs a transition that keeps the pair. */
  const change = <A>(userUlid: UserUlid, missing: A, f: (row: Rows.Row, now: number) => readonly [A, Rows.Row]) =>
    step((now) => {
      const row = rows.get(userUlid)
      if (row === undefined) return Effect.succeed(missing)
      const [result, next] = f(row, now)
      rows.set(userUlid, next)
      log.written(row, next, now)
      return Effect.succeed(result)
    })

  const sealedOf = (userUlid: UserUlid, now: number) =>
    [...(sealed.get(userUlid)?.values() ?? [])].filter(({ at }) => at + sealedFor > now)

  /** Whether one is kept of the token that would be spent now. */
  const hasSealed = (row: Rows.Row, now: number) =>
    sealedOf(row.userUlid, now).some(({ spentHash }) => [row.journal, hash(row.pair.refreshToken)].includes(spentHash))

  const unseal = (userUlid: UserUlid, isOver: (answer: SealedAnswer) => boolean) => {
    sealed.set(userUlid, new Map([...(sealed.get(userUlid) ?? [])].filter(([, answer]) => !isOver(answer))))
  }

  const openCircuit = (
    request: CircuitRequest,
    why: { readonly cause: Circuits.CircuitCause; readonly reason: string; readonly userUlid?: UserUlid },
    now: number
  ) => {
    const circuit = Circuits.open(circuits.get(clientKey(request)), why, now, Rows.millis(request.interval))
    circuits.set(clientKey(request), circuit)
    return circuit
  }

  const closeCircuit = (
    request: Circuits.ClientKey | undefined,
    close: typeof Circuits.granted,
    claimedAt: number,
    now: number
  ) => {
    const open = request === undefined ? undefined : circuits.get(clientKey(request))
    if (request === undefined || open === undefined || close(open, claimedAt) !== undefined) return
    circuits.delete(clientKey(request))
    if (open.cause === "drift") driftEndedAt.set(clientKey(request), now)
    closedAt.set(clientKey(request), now)
  }

  /** Keeps an answer beside its user's row, whatever state that is in. */
  const keep = (
    userUlid: UserUlid,
    answer: NewSealedAnswer,
    drift: Drift | undefined,
    circuit: CircuitRequest | undefined,
    now: number,
    history?: Event
  ) => {
    if (!rows.has(userUlid)) return false
    const key = `${answer.spentHash} ${hashAnswer(answer.answer)}`
    const before = [...(sealed.get(userUlid) ?? [])].filter(([, { at }]) => at + sealedFor > now)
    // Offered before, it is no news of anything.
    if (before.some(([other]) => other === key)) return true
    const all = [...before, [key, { ...answer, at: now }] as const]
    const dropped = all.slice(maxSealed.first, -maxSealed.last)
    sealed.set(userUlid, new Map(all.filter((each) => !dropped.includes(each))))
    histories.enter(userUlid, now, "sealed", history)
    const isOthers = ([other, answers]: [UserUlid, ReadonlyMap<string, SealedAnswer>]) =>
      other !== userUlid &&
      [...answers.values()].some(
        (it) => it.connection.clientId === answer.connection.clientId && it.at + sealedFor > now
      )
    if (drift !== undefined && circuit !== undefined && (drift.users === 1 || [...sealed].some(isOthers))) {
      openCircuit({ ...circuit, clientId: answer.connection.clientId }, { cause: "drift", reason: drift.reason }, now)
    }
    return true
  }

  /** The claim as the row judges it, and then the client's circuit. */
  const claimRow = (row: Rows.Row, request: ClaimRequest, now: number): readonly [ClaimResult, Rows.Row] => {
    const [result, next] = admit(row, request, now)
    if (result._tag === "Claimed") histories.lapsed(row, now)
    return [result, next]
  }

  const admit = (row: Rows.Row, request: ClaimRequest, now: number): readonly [ClaimResult, Rows.Row] => {
    const [result, next] = claim(row, request, now)
    if (result._tag === "Terminal") return [{ ...result, sealed: sealedOf(row.userUlid, now) }, next]
    if (result._tag !== "Claimed") return [result, next]
    const claimed = { ...result, sealed: sealedOf(row.userUlid, now) }
    const { circuit, purpose } = request
    if (circuit === undefined || purpose._tag === "Hold") return [claimed, next]
    const isWaiting = purpose._tag === "Reissue" || request.expiredFor !== undefined
    const user = {
      userUlid: row.userUlid,
      kind: row.connection._tag,
      isWaiting,
      isAhead: purpose._tag === "Ahead",
      hasSealed: hasSealed(row, now)
    }
    const key = clientKey(circuit)
    const interval = Rows.millis(circuit.interval)
    const admission = Circuits.admit(circuits.get(key), user, now, interval, driftEndedAt.get(key))
    switch (admission._tag) {
      case "Closed":
        return [claimed, next]
      case "Held": {
        const { cause, reason, retryAfter, trialIn } = admission
        const held = { row: result.row, retryAfter, trialIn, cause, reason, sealed: claimed.sealed }
        return [ClaimResult.Held(held), row]
      }
      case "Trial":
        circuits.set(key, admission.next)
        return [{ ...claimed, trial: admission.reissue ? "reissue" : "refresh" }, next]
    }
  }

  /** Whether the client's circuit spares a user from being marked for good; with what it says of that. */
  const spares = ({ brake, circuit }: FailRequest, row: Rows.Row, now: number) => {
    if (circuit === undefined || brake === undefined) return undefined
    const present = circuits.get(clientKey(circuit))
    // Whichever token it was sent for: its pair may be of the account.
    const keepsAnswer = sealedOf(row.userUlid, now).length > 0
    if (present?.cause === "drift") return keepsAnswer ? present : undefined
    const isReading = Circuits.isReading(driftEndedAt.get(clientKey(circuit)), now)
    if (present === undefined && isReading && keepsAnswer) {
      return { cause: "drift", reason: Circuits.keptReason, trialAt: now + Rows.millis(circuit.interval) } as const
    }
    const counts = log.refreshes(
      // What was refused before Cal.com granted something shows nothing any more.
      Math.max(now - Rows.millis(brake.window), closedAt.get(clientKey(circuit)) ?? -Infinity),
      (userUlid) => rows.get(userUlid)?.connection.clientId === circuit.clientId,
      row.userUlid
    )
    if (present?.cause !== "brake" && !Circuits.isBraking(counts, brake.users)) return undefined
    return openCircuit(circuit, { cause: "brake", reason: Circuits.brakeReason, userUlid: row.userUlid }, now)
  }

  const openCircuits = (): ReadonlyArray<Activity.OpenCircuit> =>
    [...circuits].map(([key, { cause, reason, since, trialAt }]) => ({
      clientId: clientOf(key),
      ...{ cause, reason, openedAt: since, trialAt }
    }))

  const failRow = (row: Rows.Row, request: FailRequest, now: number): readonly [FailResult, Rows.Row] => {
    const [result, next] = end(row, request, now)
    const written =
      result._tag === "Recorded"
        ? "recorded"
        : result._tag === "Spared"
          ? "spared"
          : result.attemptIsMine
            ? undefined
            : "late"
    if (written !== undefined) histories.enter(row.userUlid, now, written, request.history)
    return [result, next]
  }

  const end = (row: Rows.Row, request: FailRequest, now: number): readonly [FailResult, Rows.Row] => {
    const { circuit, failure } = request
    if (failure._tag === "Unknown" && failure.sealed !== undefined) {
      keep(row.userUlid, failure.sealed, failure.drift, circuit, now)
    }
    if (failure._tag === "Released" && failure.refusal !== undefined && circuit !== undefined) {
      openCircuit(circuit, { cause: "client", reason: failure.refusal }, now)
    }
    const [result, next] = fail(row, request, now)
    if (failure._tag !== "Terminal" || result._tag !== "Recorded") return [result, next]
    const sparing = spares(request, row, now)
    if (sparing === undefined) {
      closeCircuit(circuit, Circuits.refused, row.attemptStartedAt ?? now, now)
      return [result, next]
    }
    const spared = Rows.released(row, failure.probe)
    const { cause, reason, trialAt } = sparing
    const retryAfter = Duration.millis(Math.max(0, trialAt - now))
    return [FailResult.Spared({ row: Rows.toStored(spared), retryAfter, cause, reason }), spared]
  }

  return {
    find: (userUlid) => Effect.sync(() => Option.map(Option.fromNullable(rows.get(userUlid)), Rows.toStored)),
    claim: (request) => change(request.userUlid, ClaimResult.NotFound(), (row, now) => claimRow(row, request, now)),
    claimDue: (request) =>
      step((now) => {
        const claims: Array<DueClaim> = []
        const { clientId } = request.circuit
        const key = clientKey(request.circuit)
        if (circuits.has(key) || (closedAt.get(key) ?? -Infinity) > now - quiet)
          return Effect.succeed({ claims, isMore: false })
        const due = [...rows.values()]
          .filter((row) => row.connection.clientId === clientId && row.visitAt !== null && row.visitAt <= request.now)
          .sort((a, b) => (a.visitAt ?? 0) - (b.visitAt ?? 0) || (a.userUlid < b.userUlid ? -1 : 1))
        const idle = due.slice(0, maxPutOff).filter((row) => Rows.isIdle(row, request))
        for (const row of idle) rows.set(row.userUlid, { ...row, visitAt: row.keepAt })
        let visits = 0
        for (const row of due.filter((row) => !Rows.isIdle(row, request)).slice(0, request.limit * maxVisits)) {
          if (claims.length === request.limit) break
          visits++
          const attemptId = [...(request.process === undefined ? [] : [request.process]), randomUUID()].join(".")
          const claim = { ...request, userUlid: row.userUlid, attemptId, purpose: Purpose.Ahead() }
          const [result, next] = claimRow(row, claim, now)
          rows.set(row.userUlid, { ...next, visitAt: Rows.nextVisit(result, request) })
          if (result._tag === "Claimed") claims.push({ attemptId, dueAt: row.visitAt ?? 0, claimed: result })
        }
        const isMore =
          idle.length >= maxPutOff / 10 || visits === request.limit * maxVisits || claims.length === request.limit
        return Effect.succeed({ claims, isMore })
      }),
    used: (users, precision) =>
      Effect.sync(() => {
        for (const { at, userUlid } of users) {
          const row = rows.get(userUlid)
          if (row !== undefined) rows.set(userUlid, Rows.used(row, at, precision))
        }
      }),
    spend: (request) => change(request.userUlid, Option.none(), (row) => spend(row, request)),
    fail: (request) =>
      change(request.userUlid, FailResult.NotRecorded({ row: Option.none(), attemptIsMine: false }), (row, now) =>
        failRow(row, request, now)
      ),
    seal: ({ drift, history, userUlid, ...answer }) =>
      step((now) => Effect.succeed(keep(userUlid, answer, drift, drift?.circuit, now, history))),
    sealed: ({ after, limit }) =>
      step((now) =>
        Effect.succeed(
          [...sealed.keys()]
            .filter((userUlid) => after === undefined || userUlid > after)
            .filter((userUlid) => sealedOf(userUlid, now).length > 0)
            .sort()
            .slice(0, limit)
            .flatMap((userUlid) => sealedOf(userUlid, now).map((answer) => ({ ...answer, userUlid })))
        )
      ),
    commit: (request) =>
      step((now) => {
        const row = rows.get(request.userUlid)
        if (row === undefined) return Effect.succeed(CommitResult.Discarded())
        const [result, next] = commit(row, request, now, lastVersion + 1, isFreeFor(row.userUlid))
        const isMine = row.attemptId === request.attemptId
        const claimedAt = isMine ? (row.attemptStartedAt ?? -Infinity) : -Infinity
        if (request.unsealed !== undefined) unseal(row.userUlid, ({ spentHash }) => spentHash === request.unsealed)
        const { unread } = request
        if (CommitResult.$is("Stored")(result)) unseal(row.userUlid, ({ at }) => at < claimedAt)
        if (unread !== undefined) keep(row.userUlid, unread.sealed, unread.drift, request.circuit, now)
        // One that is not understood says nothing good of the client.
        if (unread === undefined)
          closeCircuit(request.circuit, Circuits.granted, request.unsealed === undefined ? claimedAt : Infinity, now)
        if (CommitResult.$is("Stored")(result)) store(next, request.reissued === true ? "reissued" : "refreshed", now)
        else {
          rows.set(row.userUlid, next)
          log.written(row, next, now)
        }
        if (result._tag === "Stored") histories.enter(row.userUlid, now, "stored", request.history)
        if (result._tag === "KeptAsFallback" && next !== row)
          histories.enter(row.userUlid, now, "kept", request.history)
        return Effect.succeed(result)
      }),
    connect: (request) =>
      step((now) => {
        const { connection, userUlid } = request
        const displaced = isFreeFor(userUlid)(connection) ? undefined : accounts.get(accountKey(connection))
        if (displaced !== undefined) {
          if (request.replace !== true) return Effect.fail(new CalAccountInUse({ userUlid }))
          remove(displaced, now)
        }
        sealed.delete(userUlid)
        closeCircuit(request.circuit, Circuits.granted, Infinity, now)
        const before = Option.fromNullable(rows.get(userUlid))
        const row = store(connect(before, request, now, lastVersion + 1), "connected", now)
        histories.enter(userUlid, now, "stored", request.history)
        return Effect.succeed(displaced === undefined ? row : { ...row, displaced })
      }),
    update: ({ connection, history, pair, schedule, userUlid }) =>
      step((now) => {
        const before = rows.get(userUlid)
        if (before === undefined || !Rows.isOf(before.connection, connection)) {
          return Effect.succeed(Option.none())
        }
        sealed.delete(userUlid)
        const request = { userUlid, connection: before.connection, pair, schedule }
        const { sessionsAfter } = before
        const next = { ...connect(Option.some(before), request, now, lastVersion + 1), sessionsAfter }
        histories.enter(userUlid, now, "stored", history)
        return Effect.succeed(Option.some(store(next, "updated", now)))
      }),
    import: (requests) =>
      step((now) => {
        const results = new Array<ImportResult>(requests.length)
        const places = [...requests.entries()].sort(([, a], [, b]) =>
          a.userUlid < b.userUlid ? -1 : a.userUlid > b.userUlid ? 1 : 0
        )
        for (const [place, request] of places) {
          const { userUlid } = request
          const before = Option.fromNullable(rows.get(userUlid))
          const [result, next] = takeOver(before, request, now, lastVersion + 1, isFreeFor(userUlid))
          results[place] = result
          if (Option.isNone(next) || next === before) continue
          sealed.delete(userUlid)
          store(next.value, result._tag === "Imported" ? "connected" : "updated", now)
          histories.enter(userUlid, now, "stored", request.history)
        }
        return Effect.succeed(results)
      }),
    disconnect: (userUlid) => step((now) => Effect.succeed(remove(userUlid, now))),
    endSessions: (userUlid) =>
      Effect.sync(() => {
        const row = rows.get(userUlid)
        if (row === undefined) return false
        setOwners(userUlid, row.lookups, [])
        rows.set(userUlid, { ...row, lookups: [], sessionsAfter: ++lastVersion })
        return true
      }),
    findByAccessToken: (accessHash, only) =>
      Effect.sync(() => {
        const found = [...(owners.get(Lookups.keyOf(accessHash)) ?? [])]
          .filter((userUlid) => only === undefined || userUlid === only)
          .flatMap((userUlid) => Option.toArray(Option.fromNullable(rows.get(userUlid))))
        return Lookups.latest(found.map(Rows.toStored), accessHash)
      }),
    handedOut: (users) =>
      Effect.sync(() => {
        for (const { at, userUlid } of users) {
          const row = rows.get(userUlid)
          if (row !== undefined && (row.handedOutAt ?? 0) < at) rows.set(userUlid, { ...row, handedOutAt: at })
        }
      }),
    missingKeys: Effect.succeed([]),
    history: (userUlid) =>
      step((now) =>
        Effect.succeed(
          Option.map(Option.fromNullable(rows.get(userUlid)), (row) => {
            const circuit = openCircuits()
              .filter(({ clientId }) => clientId === row.connection.clientId)
              .sort((one, other) => other.openedAt - one.openedAt)[0]
            return { ...histories.read(row, now), ...(circuit === undefined ? {} : { circuit }) }
          })
        )
      ),
    list: ({ after, calUserId, limit, status }) =>
      Effect.sync(() =>
        [...rows.values()]
          .filter((row) => status === undefined || row.status._tag === status)
          .filter((row) => calUserId === undefined || row.connection.calUserId === calUserId)
          .filter((row) => after === undefined || row.userUlid > after)
          .sort((a, b) => (a.userUlid < b.userUlid ? -1 : 1))
          .slice(0, Math.max(0, limit))
          .map(Rows.toSummary)
      ),
    reconnecting: ({ before, limit }) =>
      Effect.sync(() =>
        [...rows.values()]
          .flatMap((row) => (row.status._tag === "Active" ? [] : [{ row, since: row.status.since }]))
          .sort((a, b) => b.since - a.since || (a.row.userUlid < b.row.userUlid ? 1 : -1))
          .filter(
            ({ row, since }) =>
              before === undefined || since < before.since || (since === before.since && row.userUlid < before.userUlid)
          )
          .slice(0, Math.max(0, limit))
          .map(({ row }) => Rows.toSummary(row))
      ),
    counts: step((now) => {
      const terminal = [...rows.values()].filter(({ status }) => status._tag !== "Active").length
      const causes = [...circuits.values()].map(({ cause }) => cause)
      const of = (cause: Circuits.CircuitCause) => causes.filter((each) => each === cause).length
      return Effect.succeed({
        users: { active: rows.size - terminal, reauthorizationRequired: terminal },
        circuits: { client: of("client"), brake: of("brake"), drift: of("drift") },
        sealed: [...sealed.keys()].reduce((sum, userUlid) => sum + sealedOf(userUlid, now).length, 0)
      })
    }),
    activity: (since) => step((now) => Effect.succeed(histories.activity(since, now))),
    outlook: (now) =>
      Effect.sync(() => {
        const ends = [...rows.values()]
          .filter(({ status }) => status._tag === "Active")
          .map(({ pair }) => pair.accessTokenExpiresAt)
        const until = Activity.minuteOf(now) + Activity.span * Activity.minute
        const users = new Map<number, number>()
        for (const at of ends.filter((end) => end > now && end < until).map(Activity.minuteOf)) {
          users.set(at, (users.get(at) ?? 0) + 1)
        }
        return {
          overdue: ends.filter((end) => end <= now).length,
          minutes: [...users].sort(([a], [b]) => a - b).map(([at, users]) => ({ at, users })),
          circuits: openCircuits()
        }
      }),
    ping: Effect.void,
    notices: Stream.empty,
    log: log.service
  }
}

/**
 * Keeps tokens in this process's memory, with the semantics of the database, until the layer is released.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<TokenStorage> = Layer.sync(TokenStorage, () => make())

const clientKey = ({ clientId, fingerprint }: Circuits.ClientKey): string => JSON.stringify([clientId, fingerprint])

/** Which client a key is of. */
const clientOf = (key: string): string => (JSON.parse(key) as [clientId: string])[0]

/** Names a Cal.com account; of a nameless one, nothing is stored under its key. */
const accountKey = ({ _tag, calUserId, clientId }: Connection): string => JSON.stringify([_tag, clientId, calUserId])
