/** The storage as a node sees it: somebody else's process, reached by messages that may be slow or lost. */
import { Duration, Effect, Exit, Option, Predicate, Queue, Redacted, Stream } from "effect"
import type { CalClient } from "../../src/CalClient.js"
import { hash } from "../../src/Token.js"
import type { TokenPair, UserUlid } from "../../src/Token.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import { Purpose } from "../../src/TokenStorage.js"
import type {
  ClaimRequest,
  ClaimResult,
  CommitResult,
  Drift,
  DueClaim,
  NewSealedAnswer,
  Notice,
  SealedAnswer,
  StoredConnection,
  StoredRow,
  TokenStorage
} from "../../src/TokenStorage.js"
import { millis } from "../../src/TokenStorage/Rows.js"
import { textOf, understood } from "./Answers.js"
import type { Attempt } from "./Oracle.js"
import type { StorageOp } from "./Plan.js"
import { type Node, statementTimeout, type World } from "./World.js"

type Service = TokenStorage["Type"]

const circuitInterval = Duration.toMillis(TokenConfig.defaults.circuitInterval)

/** When things happen to one statement, in milliseconds from now; `undefined`: they do not. */
interface Fate {
  readonly executes: number | undefined
  readonly answers: boolean
  readonly fails: number | undefined
}

const fateOf = (world: World, op: StorageOp): Fate => {
  const most = world.plan.latency.storage
  const there = world.delay(most)
  const incident = world.storageFault(op)
  if (incident === undefined) return { executes: there, answers: true, fails: statementTimeout }
  world.count("fault", `storage ${incident.fault}`)
  switch (incident.fault) {
    case "refused":
      return { executes: undefined, answers: false, fails: there }
    case "silentBefore":
      return { executes: undefined, answers: false, fails: statementTimeout }
    case "silentAfter":
      return { executes: there, answers: false, fails: statementTimeout }
    case "dropAfter":
      return { executes: there, answers: false, fails: there + world.delay(most) }
    case "slow":
      return { executes: Math.min(incident.millis, statementTimeout - 100), answers: true, fails: statementTimeout }
    case "zombie":
      // A statement that could take a connection away must not come back from the dead: no storage can help that.
      return op === "disconnect" || op === "connect" || op === "update" || op === "import"
        ? { executes: undefined, answers: false, fails: there }
        : { executes: statementTimeout + incident.millis, answers: false, fails: statementTimeout }
  }
}

export const connect = (
  world: World,
  node: Node,
  storage: Service,
  { fingerprint }: Pick<typeof CalClient.Service, "fingerprint">
): Service => {
  const { circuits, driver, oracle } = world
  const process = node.process
  if (process === undefined) throw new Error("a node that is down has no storage")

  /** When it was claimed from here. */
  const claims = new Map<string, ReadonlyArray<number>>()
  const keyOf = (clientId: string) => `${clientId} ${fingerprint(clientId)}`
  /** What a newer program makes of sealed answers. */
  const seen = <A extends SealedAnswer>(answers: ReadonlyArray<A>): ReadonlyArray<A> =>
    node.isNewer
      ? answers.map((each) => ({ ...each, answer: Redacted.make(understood(Redacted.value(each.answer))) }))
      : answers
  /** The storage took an answer that nobody understands: is that news of all users of the client? */
  const drifted = (userUlid: UserUlid, answer: NewSealedAnswer, drift: Drift | undefined) => {
    const { clientId } = answer.connection
    const isNews = circuits.isNews(`${userUlid} ${answer.spentHash} ${textOf(Redacted.value(answer.answer))}`)
    if (!isNews || drift === undefined) return
    const all = world.runSync(storage.sealed({ limit: 1000 }))
    const isOthers = (each: SealedAnswer & { readonly userUlid: UserUlid }) =>
      each.userUlid !== userUlid && each.connection.clientId === clientId
    if (drift.users === 1 || (Exit.isSuccess(all) && all.value.some(isOthers))) {
      circuits.opened(keyOf(clientId), "drift", driver.now, circuitInterval)
    }
  }

  const heard = Effect.runSync(Queue.sliding<Notice>(64))
  node.hear = (notice) => void Queue.unsafeOffer(heard, notice)

  const call = <A, E>(
    op: StorageOp,
    about: string,
    statement: Effect.Effect<A, E>,
    hooks: {
      /** Whose row it may change. */
      readonly writes?: UserUlid
      readonly executed?: (result: A) => void
      readonly answered?: (result: A) => void
      readonly tell?: (result: A) => string
    }
  ): Effect.Effect<A, E | StorageUnavailable> =>
    Effect.async<A, E | StorageUnavailable>((resume) => {
      const fate = fateOf(world, op)
      let done = false
      const end = (run: () => void) => {
        if (done) return
        done = true
        failure?.cancel()
        run()
      }
      const failure =
        fate.fails === undefined
          ? undefined
          : driver.after(fate.fails, process, () =>
              end(() => {
                node.lastStorageFailure = driver.now
                world.note(node.name, `${op} ${about}: the storage does not answer`)
                resume(Effect.fail(new StorageUnavailable({ operation: op, reason: "no answer" })))
              })
            )
      world.reach(node, "sent", op)
      if (fate.executes === undefined) return
      driver.after(fate.executes, world.server, () => {
        const exit = world.runSync(statement)
        if (Exit.isSuccess(exit)) {
          if (world.traces)
            world.note("storage", `${op} ${about} of ${node.name}: ${hooks.tell?.(exit.value) ?? "done"}`)
          hooks.executed?.(exit.value)
          if (hooks.writes !== undefined) world.announce(hooks.writes, Option.getOrUndefined(versionIn(exit.value)))
        }
        world.reach(node, "executed", op)
        if (!fate.answers) return
        driver.after(world.delay(world.plan.latency.storage), process, () => {
          world.reach(node, "answered", op)
          const deliver = () =>
            end(() => {
              if (Exit.isSuccess(exit)) hooks.answered?.(exit.value)
              resume(exit)
            })
          if (process.isAlive) process.receive(deliver)
        })
      })
    })

  /** The attempt that a claim opens: what this node may send in its name. */
  const opened = (request: ClaimRequest, result: ClaimResult, executedAt: number) => {
    if (result._tag !== "Claimed") return
    const attempt = {
      probe: Option.getOrUndefined(result.probe),
      leaseUntil: executedAt + millis(request.lease)
    }
    lastAttempt.set(request.userUlid, attempt)
    const { purpose, userUlid } = request
    const asked = purpose._tag === "Reissue" ? purpose.account.calUserId : undefined
    node.claims.set(userUlid, { asked, claimed: result.row.connection.calUserId })
    maySend(result.row)
  }
  const lastAttempt = new Map<string, Pick<Attempt, "probe" | "leaseUntil">>()
  const maySend = (row: StoredRow) => {
    const attempt = lastAttempt.get(row.userUlid)
    if (attempt === undefined) return
    node.attempts.set(hash(row.pair.refreshToken), { ...attempt, isFallback: false })
    for (const pair of row.fallbacks) node.attempts.set(hash(pair.refreshToken), { ...attempt, isFallback: true })
  }

  const keep = (row: StoredRow | undefined) => {
    if (row === undefined) return
    oracle.versioned(row.userUlid, row.version)
    oracle.stored(hash(row.pair.refreshToken), row.version, Redacted.value(row.pair.accessToken))
    for (const pair of row.fallbacks) oracle.stored(hash(pair.refreshToken), undefined)
  }
  /** Whoever hands in a pair says that it works. */
  const handedIn = (userUlid: string, { accessToken, refreshToken }: TokenPair) => {
    oracle.handedIn(userUlid, hash(refreshToken))
    for (const other of world.nodes) other.rejected.delete(Redacted.value(accessToken))
  }
  const sealed = (userUlid: UserUlid, answer: NewSealedAnswer | undefined, isKept: boolean) => {
    if (answer === undefined) return
    world.count("call", "answers sealed")
    oracle.sealed(userUlid, textOf(Redacted.value(answer.answer)), isKept)
  }
  const tellRow = (row: StoredConnection | StoredRow) =>
    `v${row.version} ${[row.pair, ...("fallbacks" in row ? row.fallbacks : [])].map((pair) => oracle.nameOf(hash(pair.refreshToken))).join(" + ")} ${
      row.status._tag === "Active" ? "" : `(${row.status.cause})`
    }`
  const nameOf = (userUlid: string) => `user${Number(userUlid.slice(-4))}`

  return {
    find: (userUlid) =>
      call("find", nameOf(userUlid), storage.find(userUlid), {
        tell: Option.match({ onNone: () => "no row", onSome: tellRow })
      }),
    claim: (request) => {
      let executedAt = 0
      const recent = (claims.get(request.userUlid) ?? []).filter((at) => at > driver.now - 5000)
      claims.set(request.userUlid, [...recent, driver.now])
      // Twice as often as anybody who polls alone, and notices besides.
      if (recent.length > 120) oracle.report("storm", `${node.name} claims ${recent.length} times in 5 s`)
      return call("claim", nameOf(request.userUlid), storage.claim(request), {
        executed: (result) => {
          executedAt = driver.now
          if (request.circuit !== undefined && "row" in result) {
            const { connection, userUlid } = result.row
            circuits.claimed(keyOf(connection.clientId), request, result, driver.now, nameOf(userUlid))
          }
          if (result._tag !== "Claimed") return
          const { purpose } = request
          if (purpose._tag === "Reissue" && oracle.reissuedVersion(request.userUlid) > purpose.knownVersion) {
            oracle.report("reissue", `${nameOf(request.userUlid)} is reissued again for who was answered already`)
          }
          const rejected = purpose._tag === "Refresh" ? purpose.rejectedInterval : undefined
          oracle.claimed(request.userUlid, rejected !== undefined, rejected === undefined ? 0 : millis(rejected))
        },
        answered: (result) => opened(request, result, executedAt),
        tell: (result) =>
          result._tag === "Claimed"
            ? `claimed ${tellRow(result.row)}${Option.isSome(result.probe) ? ` to probe ${oracle.nameOf(result.probe.value)}` : ""}`
            : result._tag
      }).pipe(
        Effect.map((result): ClaimResult => ("sealed" in result ? { ...result, sealed: seen(result.sealed) } : result))
      )
    },
    claimDue: (request) => {
      let executedAt = 0
      const asked = ({ attemptId, claimed }: DueClaim): ClaimRequest => ({
        ...request,
        userUlid: claimed.row.userUlid,
        attemptId,
        purpose: Purpose.Ahead()
      })
      return call("claim", "what is due", storage.claimDue(request), {
        executed: ({ claims }) => {
          executedAt = driver.now
          for (const claim of claims) {
            const { connection, userUlid } = claim.claimed.row
            circuits.claimed(keyOf(connection.clientId), asked(claim), claim.claimed, driver.now, nameOf(userUlid))
            oracle.claimed(userUlid, false, 0)
            world.count("call", "refreshes ahead")
          }
        },
        answered: ({ claims }) => {
          for (const claim of claims) opened(asked(claim), claim.claimed, executedAt)
        },
        tell: ({ claims }) =>
          claims.map(({ claimed }) => `claimed ${nameOf(claimed.row.userUlid)} ${tellRow(claimed.row)}`).join(", ")
      }).pipe(
        Effect.map(({ claims, isMore }) => ({
          isMore,
          claims: claims.map(({ claimed, ...claim }) => ({
            ...claim,
            claimed: { ...claimed, sealed: seen(claimed.sealed) }
          }))
        }))
      )
    },
    spend: (request) =>
      call("spend", nameOf(request.userUlid), storage.spend(request), {
        answered: Option.match({
          onNone: () => undefined,
          onSome: maySend
        }),
        tell: Option.match({ onNone: () => "not yours", onSome: () => `next is ${oracle.nameOf(request.next)}` })
      }),
    commit: (request) =>
      call("commit", nameOf(request.userUlid), withRow(storage, request.userUlid, storage.commit(request)), {
        writes: request.userUlid,
        executed: ({ after, before, result }) => {
          if (result._tag === "Discarded") {
            const grant = oracle.grants.get(hash(request.pair.refreshToken))
            const other = Option.match(before, {
              onNone: () => true,
              onSome: ({ connection }) => connection.calUserId !== request.connection.calUserId
            })
            if (grant !== undefined && other) grant.state = "discarded"
          } else {
            keep(Option.getOrUndefined(after))
            if (result._tag === "Stored") oracle.cameOtherwise(request.userUlid, false)
            if (result._tag === "Stored") sealed(request.userUlid, request.unread?.sealed, true)
            if (result._tag === "Stored" && request.reissued === true) {
              oracle.reissued(request.userUlid, result.row.version)
            }
          }
          const { circuit, unread, unsealed } = request
          if (unread !== undefined) drifted(request.userUlid, unread.sealed, unread.drift)
          else if (circuit !== undefined) {
            circuits.granted(keyOf(circuit.clientId), unsealed === undefined ? request.attemptId : undefined)
          }
        },
        tell: ({ result }) =>
          `${oracle.nameOf(hash(request.pair.refreshToken))} ${result._tag} ${"row" in result ? tellRow(result.row) : ""}`
      }).pipe(Effect.map(({ result }): CommitResult => result)),
    fail: (request) =>
      call("fail", nameOf(request.userUlid), storage.fail(request), {
        writes: request.userUlid,
        executed: (result) => {
          const { failure } = request
          if (result._tag === "Recorded" && failure._tag === "Released") oracle.released(request.userUlid)
          const isThere = result._tag !== "NotRecorded" || Option.isSome(result.row)
          if (failure._tag === "Terminal" && result._tag === "Recorded") oracle.marked(request.userUlid)
          if (failure._tag === "Unknown") sealed(request.userUlid, failure.sealed, isThere)
          if (failure._tag === "Unknown" && failure.sealed !== undefined && isThere) {
            drifted(request.userUlid, failure.sealed, failure.drift)
          }
          if (request.circuit === undefined || !isThere) return
          const key = keyOf(request.circuit.clientId)
          if (failure._tag === "Released" && failure.refusal !== undefined) {
            circuits.opened(key, "client", driver.now, circuitInterval)
          }
          if (failure._tag === "Terminal" && result._tag === "Recorded") {
            if (circuits.isDrifting(key) && oracle.isSealed(request.userUlid)) {
              oracle.report("drift", `${nameOf(request.userUlid)} is marked while an answer is sealed`)
            }
            const { connection, pair } = result.row
            if (connection._tag === "OAuth2" && !oracle.wasRefused(hash(pair.refreshToken))) {
              oracle.report("P9", `${nameOf(request.userUlid)} is marked though Cal.com never refused the token`)
            }
            circuits.rejected(key, request.attemptId)
          }
        },
        tell: (result) => `${request.failure._tag} ${result._tag}`
      }),
    import: (requests) => {
      const [request] = requests
      if (request === undefined || requests.length > 1) return Effect.dieMessage("one at a time is imported in here")
      const { connection, pair, userUlid } = request
      return call("import", nameOf(userUlid), withRow(storage, userUlid, storage.import(requests)), {
        writes: userUlid,
        executed: ({ after, before, result: [result] }) => {
          const row = Option.getOrUndefined(before)
          oracle.imported(
            userUlid,
            hash(pair.refreshToken),
            row && {
              hash: hash(row.pair.refreshToken),
              isSameAccount: row.connection.calUserId === connection.calUserId
            },
            Option.getOrUndefined(Option.map(after, ({ pair }) => hash(pair.refreshToken)))
          )
          if (result?._tag !== "Imported" && result?._tag !== "Updated") return
          world.onConnected(userUlid, connection)
          handedIn(userUlid, pair)
          oracle.unsealed(userUlid)
          keep(Option.getOrUndefined(after))
        },
        tell: ({ result: [result] }) =>
          `${oracle.nameOf(hash(pair.refreshToken))} ${result?._tag} ${result !== undefined && "row" in result ? tellRow(result.row) : ""}`
      }).pipe(Effect.map(({ result }) => result))
    },
    connect: (request) =>
      call("connect", nameOf(request.userUlid), withRow(storage, request.userUlid, storage.connect(request)), {
        writes: request.userUlid,
        executed: ({ after, before }) => {
          world.onConnected(request.userUlid, request.connection)
          const earlier = Option.getOrUndefined(before)?.connection.calUserId
          if (earlier !== request.connection.calUserId) oracle.givenAway(earlier)
          handedIn(request.userUlid, request.pair)
          oracle.cameOtherwise(request.userUlid, true)
          oracle.unsealed(request.userUlid)
          if (request.circuit !== undefined) circuits.granted(keyOf(request.circuit.clientId), undefined)
          keep(Option.getOrUndefined(after))
        },
        tell: ({ result }) => tellRow(result)
      }).pipe(Effect.map(({ result }) => result)),
    update: ({ pair, userUlid, ...request }) =>
      call("update", nameOf(userUlid), withRow(storage, userUlid, storage.update({ pair, userUlid, ...request })), {
        writes: userUlid,
        executed: ({ after }) => {
          handedIn(userUlid, pair)
          oracle.cameOtherwise(userUlid, true)
          oracle.unsealed(userUlid)
          keep(Option.getOrUndefined(after))
        },
        tell: ({ result }) => Option.match(result, { onNone: () => "no row", onSome: tellRow })
      }).pipe(Effect.map(({ result }) => result)),
    disconnect: (userUlid) =>
      call("disconnect", nameOf(userUlid), withRow(storage, userUlid, storage.disconnect(userUlid)), {
        writes: userUlid,
        // Somebody gave these pairs away, also if an older one is handed in afterwards.
        executed: ({ before }) => {
          oracle.givenAway(Option.getOrUndefined(before)?.connection.calUserId)
          oracle.cameOtherwise(userUlid, true)
          oracle.unsealed(userUlid)
        },
        tell: ({ result }) => `was there: ${result}`
      }).pipe(Effect.map(({ result }) => result)),
    history: (userUlid) => storage.history(userUlid),
    seal: (request) =>
      call("fail", nameOf(request.userUlid), storage.seal(request), {
        executed: (isKept) => {
          sealed(request.userUlid, request, isKept)
          if (isKept) drifted(request.userUlid, request, request.drift)
        },
        tell: (isKept) => (isKept ? "sealed" : "no row")
      }),
    sealed: (request) =>
      Effect.map(
        call("find", "sealed answers", storage.sealed(request), { tell: ({ length }) => String(length) }),
        seen
      ),
    endSessions: storage.endSessions,
    findByAccessToken: storage.findByAccessToken,
    used: storage.used,
    handedOut: storage.handedOut,
    missingKeys: storage.missingKeys,
    list: storage.list,
    reconnecting: storage.reconnecting,
    counts: storage.counts,
    activity: storage.activity,
    outlook: storage.outlook,
    ping: storage.ping,
    notices: Stream.fromQueue(heard),
    log: storage.log
  }
}

/** The version of the row in an answer, if it has one. */
const versionIn = (result: unknown): Option.Option<number> => {
  if (Option.isOption(result)) return Option.flatMap(result, versionIn)
  if (Array.isArray(result)) return versionIn(result[0])
  if (!Predicate.isRecord(result)) return Option.none()
  if (typeof result["version"] === "number") return Option.some(result["version"])
  return "row" in result ? versionIn(result["row"]) : "result" in result ? versionIn(result["result"]) : Option.none()
}

/** With the user's row before and after. */
const withRow = <A, E>(storage: Service, userUlid: StoredConnection["userUlid"], statement: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const before = yield* Effect.option(storage.find(userUlid))
    const result = yield* statement
    const after = yield* Effect.option(storage.find(userUlid))
    return { before: Option.flatten(before), after: Option.flatten(after), result }
  })
