/** The storage as a node sees it: somebody else's process, reached by messages that may be slow or lost. */
import { Effect, Exit, Option, Predicate, Queue, Redacted, Stream } from "effect"
import { hash } from "../../src/Token.js"
import type { TokenPair, UserUlid } from "../../src/Token.js"
import { StorageUnavailable } from "../../src/TokenError.js"
import type {
  ClaimRequest,
  ClaimResult,
  CommitResult,
  Notice,
  StoredConnection,
  StoredRow,
  TokenStorage
} from "../../src/TokenStorage.js"
import { millis } from "../../src/TokenStorage/Rows.js"
import type { Attempt } from "./Oracle.js"
import type { StorageOp } from "./Plan.js"
import { type Node, statementTimeout, type World } from "./World.js"

type Service = TokenStorage["Type"]

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
      return op === "disconnect" || op === "connect" || op === "update"
        ? { executes: undefined, answers: false, fails: there }
        : { executes: statementTimeout + incident.millis, answers: false, fails: statementTimeout }
  }
}

export const connect = (world: World, node: Node, storage: Service): Service => {
  const { driver, oracle } = world
  const process = node.process
  if (process === undefined) throw new Error("a node that is down has no storage")

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
    oracle.stored(hash(row.pair.refreshToken), row.version)
    for (const pair of row.fallbacks) oracle.stored(hash(pair.refreshToken), undefined)
  }
  /** Whoever hands in a pair says that it works. */
  const handedIn = (userUlid: string, { accessToken, refreshToken }: TokenPair) => {
    oracle.handedIn(userUlid, hash(refreshToken))
    for (const other of world.nodes) other.rejected.delete(Redacted.value(accessToken))
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
      return call("claim", nameOf(request.userUlid), storage.claim(request), {
        executed: (result) => {
          executedAt = driver.now
          if (result._tag !== "Claimed") return
          const interval = request.rejectedInterval === undefined ? 0 : millis(request.rejectedInterval)
          oracle.claimed(request.userUlid, request.rejectedInterval !== undefined, interval)
        },
        answered: (result) => opened(request, result, executedAt),
        tell: (result) =>
          result._tag === "Claimed"
            ? `claimed ${tellRow(result.row)}${Option.isSome(result.probe) ? ` to probe ${oracle.nameOf(result.probe.value)}` : ""}`
            : result._tag
      })
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
          } else keep(Option.getOrUndefined(after))
        },
        tell: ({ result }) =>
          `${oracle.nameOf(hash(request.pair.refreshToken))} ${result._tag} ${"row" in result ? tellRow(result.row) : ""}`
      }).pipe(Effect.map(({ result }): CommitResult => result)),
    fail: (request) =>
      call("fail", nameOf(request.userUlid), storage.fail(request), {
        writes: request.userUlid,
        executed: (result) => {
          if (result._tag === "Recorded" && request.failure._tag === "Released") oracle.released(request.userUlid)
        },
        tell: (result) => `${request.failure._tag} ${result._tag}`
      }),
    connect: (request) =>
      call("connect", nameOf(request.userUlid), withRow(storage, request.userUlid, storage.connect(request)), {
        writes: request.userUlid,
        executed: ({ after }) => {
          handedIn(request.userUlid, request.pair)
          keep(Option.getOrUndefined(after))
        },
        tell: ({ result }) => tellRow(result)
      }).pipe(Effect.map(({ result }) => result)),
    update: (userUlid, pair) =>
      call("update", nameOf(userUlid), withRow(storage, userUlid, storage.update(userUlid, pair)), {
        writes: userUlid,
        executed: ({ after }) => {
          handedIn(userUlid, pair)
          keep(Option.getOrUndefined(after))
        },
        tell: ({ result }) => Option.match(result, { onNone: () => "no row", onSome: tellRow })
      }).pipe(Effect.map(({ result }) => result)),
    disconnect: (userUlid) =>
      call("disconnect", nameOf(userUlid), withRow(storage, userUlid, storage.disconnect(userUlid)), {
        writes: userUlid,
        // Somebody gave these pairs away, also if an older one is handed in afterwards.
        executed: ({ before }) => oracle.givenAway(Option.getOrUndefined(before)?.connection.calUserId),
        tell: ({ result }) => `was there: ${result}`
      }).pipe(Effect.map(({ result }) => result)),
    findByAccessToken: storage.findByAccessToken,
    list: storage.list,
    ping: storage.ping,
    notices: Stream.fromQueue(heard),
    log: storage.log
  }
}

/** The version of the row in an answer, if it has one. */
const versionIn = (result: unknown): Option.Option<number> => {
  if (Option.isOption(result)) return Option.flatMap(result, versionIn)
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
