/** What may be said of an answer, and of the system when it is quiet. */
import { Cause, Duration, Exit, Option, Redacted } from "effect"
import type * as TokenConfig from "../../src/TokenConfig.js"
import { likelyCause, type ReauthorizationRequired, type TokenError } from "../../src/TokenError.js"
import { hash } from "../../src/Token.js"
import { Purpose, AttemptFailure, type StoredRow, type TokenStorage } from "../../src/TokenStorage.js"
import { textOf } from "./Answers.js"
import type { Cal } from "./Cal.js"
import * as Callers from "./Callers.js"
import type { Process } from "./Driver.js"
import type { Grant } from "./Oracle.js"
import { type CallerOp, isCalm } from "./Plan.js"
import { epoch, type Node, statementTimeout, type World } from "./World.js"

/** A call as it began. */
export interface OpenCall {
  readonly node: Node
  readonly process: Process
  readonly user: Callers.User
  readonly op: CallerOp
  readonly startedAt: number
  readonly awakeAt: number
  /** What this node had already answered for the user, and the tokens it knew to be refused. */
  readonly floor: number
  readonly rejected: ReadonlySet<string>
  interruptedAt: number | undefined
}

/** Cal.com's clock has a resolution of a second, and smaller offsets than two are noise to a node. */
const clockNoise = 3000

export class Judge {
  private readonly mayLoseAccess: boolean
  private readonly mayDie: boolean
  /** By their numbers. */
  private readonly disconnected: ReadonlySet<number>
  private readonly revoked: ReadonlySet<number>
  private readonly isCalm: boolean
  /** How old what a node knows may be, in milliseconds: its memory, and a read that was slow. */
  private readonly stale: number

  constructor(
    private readonly world: World,
    private readonly cal: Cal,
    private readonly storage: TokenStorage["Type"],
    private readonly config: TokenConfig.Options
  ) {
    const { callers, incidents } = world.plan
    this.mayLoseAccess =
      incidents.some(({ kind }) => kind === "accessDies" || kind === "accessRefused") ||
      // After a reissue the access token that was stored is dead, and there may be no other.
      incidents.some((incident) => "odd" in incident && incident.odd?.answer === "accessTokenMissing") ||
      callers.some(({ op }) => op === "reissue")
    this.mayDie = incidents.some(({ kind }) => kind === "accessDies" || kind === "userDeleted")
    this.stale = Duration.toMillis(config.memoryMaxAge) + statementTimeout
    this.disconnected = new Set(callers.filter(({ op }) => op === "disconnect").map(({ user }) => user))
    this.revoked = new Set(
      incidents.flatMap((incident) =>
        incident.kind === "revoked" || incident.kind === "userDeleted" ? [incident.user] : []
      )
    )
    this.isCalm = isCalm(world.plan)
  }

  private report(rule: string, call: OpenCall, detail: string): void {
    this.world.oracle.report(rule, `${call.node.name}, ${call.op} user${call.user.index}: ${detail}`)
  }

  /** How wrong a node's idea of Cal.com's time may be. */
  private clockError(node: Node): number {
    return clockNoise + node.clockError
  }

  row(user: Callers.User): StoredRow | undefined {
    const exit = this.world.runSync(this.storage.find(user.userUlid))
    return Exit.isSuccess(exit) ? Option.getOrUndefined(exit.value) : undefined
  }

  /** The end of a call. */
  ended(call: OpenCall, exit: Exit.Exit<Callers.Outcome, TokenError>): void {
    this.waited(call)
    if (Exit.isSuccess(exit)) {
      if (exit.value._tag === "Token") this.token(call, exit.value.token)
      else if (exit.value._tag === "Status" && this.isCalm && exit.value.status !== 200) {
        this.report("calm", call, `Cal.com answered ${exit.value.status}`)
      }
      return
    }
    if (Cause.isInterruptedOnly(exit.cause)) {
      if (call.interruptedAt === undefined && !call.node.isStopping) {
        this.report("P2", call, "was interrupted by somebody else")
      }
      return
    }
    const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
    if (failure === undefined) return this.report("no defects", call, Cause.pretty(exit.cause))
    // Nobody remembers that a user was not there.
    if (
      failure._tag === "TokensNotFound" &&
      !this.disconnected.has(call.user.index) &&
      this.world.oracle.versionBefore(call.user.userUlid, call.startedAt, false) !== undefined
    )
      this.report("P5", call, "the user is unknown")
    // Who moved was perhaps told of the account before.
    const isSettled = call.user.movedAt < call.startedAt - this.stale
    if (
      failure._tag === "ReauthorizationRequired" &&
      isSettled &&
      call.user.kind === "managed" &&
      this.cal.hasAccount(call.user.account)
    ) {
      this.report("managed users recover", call, `told to reconnect (${failure.cause})`)
    }
    if (
      failure._tag === "ReauthorizationRequired" &&
      isSettled &&
      call.user.kind === "oauth2" &&
      !this.mayReconnect(call)
    ) {
      this.report("P9", call, `told to reconnect (${failure.cause}) although no pair was lost`)
    }
    if (failure._tag === "ReauthorizationRequired") this.namesImport(call, failure)
    if (this.isCalm && !this.disconnected.has(call.user.index) && failure._tag !== "RefreshCoolingDown") {
      this.report("calm", call, `failed with ${failure._tag}: ${failure.message}`)
    }
    if (failure._tag === "CalClientMisconfigured") {
      const { clientId } = failure
      if (!this.world.circuits.wasRefused(`${clientId} ${call.node.fingerprint(clientId)}`)) {
        this.report("circuit", call, "is told of a refusal that nobody with its secret met")
      }
    }
    if (call.op === "ensure") this.failedWhileValid(call, failure)
  }

  /** Whoever was imported may be lost to the system that had them, and only they are told so. */
  private namesImport(call: OpenCall, failure: ReauthorizationRequired): void {
    const { oracle } = this.world
    const { userUlid } = call.user
    const hint = likelyCause(failure)
    const at = oracle.importedAt(userUlid)
    if (at !== undefined && at < call.startedAt - this.stale && hint === undefined && failure.cause !== "calUserGone") {
      this.report("import", call, `is told to reconnect (${failure.cause}), and nothing of the system before`)
    }
    if (hint !== undefined && !oracle.wasImported(userUlid)) {
      this.report("import", call, "is told of an import that never was")
    }
  }

  /** Whether an answer with a pair, or the grant itself, was ever lost, or is with a process that sleeps. */
  private mayReconnect({ node, process: own, user }: OpenCall): boolean {
    const { now } = this.world.driver
    const isDrowsy = (holder: Process) => holder.isPaused || (holder.wokeAt > 0 && now - holder.wokeAt < 20_000)
    const isAway = ({ heldAt = -Infinity, holder, state, writtenBy }: Grant) => {
      // It was on its way when the user was given up, and came before everybody had been told.
      if (heldAt > this.world.oracle.markedAt(user.userUlid) && now - heldAt <= statementTimeout) return true
      if (state === "held") return holder !== undefined && isDrowsy(holder)
      // Whoever woke had it written after somebody else was told the row. To its own callers it knows better.
      if (state !== "stored" || writtenBy === undefined || writtenBy.process === own) return false
      return isDrowsy(writtenBy.process) && now - writtenBy.at <= statementTimeout
    }
    return (
      this.disconnected.has(user.index) ||
      this.revoked.has(user.index) ||
      [...this.world.oracle.grants.values()].some(
        (grant) =>
          user.accounts.has(grant.account) &&
          (grant.state === "lost" ||
            // The second system spent what was stored here, and has what came of it.
            grant.origin === "elsewhere" ||
            grant.state === "flying" ||
            (grant.state === "sealed" && !node.isNewer) ||
            // Thrown away while the user had another account, to which an old call may have put them back.
            (grant.state === "discarded" && this.cal.isLive(grant.refreshToken)) ||
            isAway(grant))
      )
    )
  }

  /** P8: while the stored token is valid, failing to refresh hurts nobody. */
  private failedWhileValid(call: OpenCall, failure: TokenError): void {
    const { driver, oracle } = this.world
    const row = this.row(call.user)
    if (row === undefined || this.mayLoseAccess || this.disconnected.has(call.user.index) || call.node.isStopping)
      return
    const [grant] = oracle.byAccess.get(Redacted.value(row.pair.accessToken)) ?? []
    // A pair that another process stored just now may not be known here yet.
    const stored = oracle.versionBefore(call.user.userUlid, call.startedAt - this.stale)
    if (grant === undefined || stored?.version !== row.version || failure._tag === "StorageUnavailable") return
    if (grant.expiresAt - driver.now > this.clockError(call.node)) {
      this.report("P8", call, `failed with ${failure._tag} although ${grant.name} is valid`)
    }
  }

  private token(call: OpenCall, token: { readonly accessToken: Redacted.Redacted; readonly version: number }): void {
    const { driver, oracle } = this.world
    const { node, user } = call
    const candidates = oracle.byAccess.get(Redacted.value(token.accessToken)) ?? []
    const grant = candidates.reduce<Grant | undefined>(
      (best, grant) => (best === undefined || (grant.version ?? Infinity) > (best.version ?? Infinity) ? grant : best),
      undefined
    )
    if (grant === undefined) return this.report("P10", call, "got a token that nobody granted")
    if (!user.accounts.has(grant.account)) this.report("P10", call, `got ${grant.name} of another user`)
    if (call.op === "reissue" && user.movedAt < call.startedAt) this.reissued(call, candidates)
    const overdue = driver.now - grant.expiresAt
    if (overdue > this.clockError(node)) this.report("valid", call, `got ${grant.name}, expired for ${overdue} ms`)
    if (call.rejected.has(grant.accessToken)) this.report("P6", call, `got ${grant.name}, which Cal.com refused`)
    // A pair that is not stored yet goes by the version of the row it replaces.
    if (grant.version === undefined || grant.state === "held") return
    if (grant.version < call.floor) {
      this.report("P6", call, `got ${grant.name} (v${grant.version}) after v${call.floor} had been answered here`)
    }
    const known = oracle.versionBefore(user.userUlid, call.startedAt - this.stale)
    // Whoever slept may have been reading when it fell asleep.
    const isExcused = known === undefined || node.lastStorageFailure >= known.at || call.process.wokeAt >= known.at
    if (!isExcused && grant.version < known.version) {
      const since = ((known.at - epoch) / 1000).toFixed(3)
      this.report("P6", call, `got ${grant.name} (v${grant.version}), superseded by v${known.version} since ${since}`)
    }
    node.seen.set(user.userUlid, Math.max(grant.version, node.seen.get(user.userUlid) ?? 0))
  }

  /** Only a reissue answers who asks for one, and one that was stored since. */
  private reissued(call: OpenCall, candidates: ReadonlyArray<Grant>): void {
    const { driver, oracle } = this.world
    // What is stored in the very instant of the call may be after it.
    const before = oracle.versionBefore(call.user.userUlid, call.startedAt, false)?.version ?? 0
    const reissuedAs = oracle.reissuedVersion(call.user.userUlid)
    // A pair that a refresh brought since then stands for it, and beside one that was handed in it is a fallback.
    const isAnswer = ({ origin, version = Infinity }: Grant) =>
      version > before && (origin !== "refresh" || (reissuedAs > before && version >= reissuedAs))
    const [grant] = candidates
    if (grant === undefined) return
    if (!candidates.some(isAnswer)) this.report("reissue", call, `got ${grant.name}, of a ${grant.origin}`)
    // A person's pair of a managed account is one that was reissued, too.
    const isKilled = [...oracle.grants.values()].some(
      (other) =>
        other !== grant &&
        other.account === grant.account &&
        other.origin !== "refresh" &&
        other.origin !== "elsewhere" &&
        other.at >= grant.at
    )
    if (!isKilled && !this.mayDie && driver.now <= grant.expiresAt && this.cal.api(grant.accessToken) !== 200) {
      this.report("reissue", call, `got ${grant.name}, which is dead`)
    }
  }

  /** Nobody waits longer than allowed, in the time of a node that is awake. */
  waited(call: OpenCall): void {
    const elapsed = call.process.awake - call.awakeAt
    const most = Callers.patience(call.op, Duration.toMillis(this.config.callerWait))
    if (elapsed > most + 100) this.report("deadline", call, `took ${elapsed} ms`)
    if (call.interruptedAt === undefined) return
    const after = call.process.awake - call.interruptedAt
    const mayFinish =
      call.op.startsWith("moveTo") ||
      call.op.startsWith("import") ||
      call.op === "connect" ||
      call.op === "update" ||
      call.op === "disconnect"
    if (!mayFinish && after > 10) this.report("P2", call, `went on for ${after} ms after its caller gave up`)
  }

  /** Nothing is under way: is every user's live pair where it should be? */
  quiet(user: Callers.User): void {
    const { cal } = this
    const { oracle } = this.world
    const row = this.row(user)
    const account = row?.connection.calUserId
    if (row === undefined || account === undefined) return
    const name = `user${user.index}`
    const isLive = (token: string) => cal.isLive(token)
    for (const { refreshToken } of [row.pair, ...row.fallbacks]) {
      const grant = oracle.grants.get(hash(refreshToken))
      if (grant !== undefined && grant.account !== account) oracle.report("P10", `${name} has ${grant.name} of another`)
    }
    const isStoredLive = [row.pair, ...row.fallbacks].some((pair) => isLive(Redacted.value(pair.refreshToken)))
    if (!isStoredLive) {
      const missing = oracle.liveWithoutExcuse(account, (grant) => isLive(grant.refreshToken))
      const sealed = missing.some(({ state }) => state === "sealed") ? this.sealed(user) : []
      for (const grant of missing) {
        if (sealed.some((text) => text.includes(grant.refreshToken))) continue
        // Answers to two reissues share one place, and who read the first clears it for both. Another reissue helps.
        if (grant.state === "sealed" && grant.origin === "reissue") continue
        oracle.report("P3/P5", `${name}: ${grant.name} is live, is not stored, and was not lost (${grant.state})`)
      }
    }
    if (row.status._tag === "Active") return
    // Lost, or thrown away because somebody asked for that: one who disconnects and hands in a pair at the same time.
    const lost = [...oracle.grants.values()].some(
      ({ account: owner, refreshToken, state }) =>
        owner === account &&
        (state === "lost" || state === "sealed" || state === "discarded" || state === "elsewhere") &&
        isLive(refreshToken)
    )
    if (row.connection._tag === "ManagedUser" ? cal.hasAccount(account) : !lost && !user.revoked.has(account)) {
      oracle.report("P9", `${name} is asked to reconnect (${row.status.cause}) although no live pair was lost`)
    }
  }

  /** The answers of a user that nobody could read. */
  sealed({ userUlid }: Callers.User): ReadonlyArray<string> {
    const exit = this.world.runSync(this.storage.sealed({ limit: 1000 }))
    return Exit.isFailure(exit)
      ? []
      : exit.value.filter((each) => each.userUlid === userUlid).map(({ answer }) => textOf(Redacted.value(answer)))
  }

  /** At the very end no lease is held and no journal is open. */
  closed(user: Callers.User): void {
    const { oracle } = this.world
    const row = this.row(user)
    if (row === undefined) return
    const attemptId = "the examiner"
    const exit = this.world.runSync(
      this.storage.claim({
        userUlid: user.userUlid,
        attemptId,
        purpose: Purpose.Refresh({ knownVersion: row.version }),
        lease: Duration.seconds(1),
        cooldownWindow: Duration.zero,
        maxAttempts: Infinity,
        expiredFor: Duration.zero
      })
    )
    if (Exit.isFailure(exit)) return oracle.report("quiet", `user${user.index}: ${Cause.pretty(exit.cause)}`)
    const result = exit.value
    const isOpen = result._tag === "Claimed" ? Option.isSome(result.probe) : result._tag !== "Terminal"
    // Behind an answer that nobody could read, an outcome stays unknown.
    if (isOpen && this.sealed(user).length === 0)
      oracle.report("quiet", `user${user.index}: an attempt is still open (${result._tag})`)
    const failure = AttemptFailure.Released({ probe: Option.none() })
    if (result._tag === "Claimed")
      this.world.runSync(this.storage.fail({ userUlid: user.userUlid, attemptId, failure }))
  }
}
