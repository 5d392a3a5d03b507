/**
 * What must hold, judged from where nobody in the fleet stands: it sees Cal.com's own state, every message, and where
 * each granted pair is.
 */
import type { Driver, Process } from "./Driver.js"

export interface Violation {
  readonly rule: string
  readonly detail: string
  readonly at: number
}

/** One pair that Cal.com granted, and what became of it. */
export interface Grant {
  readonly refreshToken: string
  readonly accessToken: string
  /** Of the refresh token. */
  readonly hash: string
  readonly name: string
  readonly account: number
  /** Of the access token, on Cal.com's clock. */
  readonly expiresAt: number
  /** When Cal.com granted it, and for what. */
  readonly at: number
  origin: "person" | "refresh" | "reissue" | "elsewhere"
  /**
   * On its way, in a process that lives, written, written unread within its answer, gone for good, given away by rule, or
   * in the second system alone.
   */
  state: "flying" | "held" | "stored" | "sealed" | "lost" | "discarded" | "elsewhere"
  why: string
  holder: Process | undefined
  /** When it came to that process from Cal.com. */
  heldAt: number | undefined
  /** Who had it in hand before it was written, and when that was over. */
  writtenBy: { readonly process: Process; readonly at: number } | undefined
  /** Of the row, once it was written as the row's pair. */
  version: number | undefined
  /** In whose name its answer is sealed. */
  sealedFor: string | undefined
}

interface Send {
  readonly by: Process
  readonly at: number
  outcome: "pending" | "granted" | "kept" | "notSpent" | "rejected" | "unknown"
  endedAt: number
}

/** The attempt in whose name a process sends, as the storage granted it. */
export interface Attempt {
  readonly probe: string | undefined
  /** The token was stored as a fallback: one that may be spent, to be tried when all else is refused. */
  readonly isFallback: boolean
  readonly leaseUntil: number
}

export class Oracle {
  readonly violations: Array<Violation> = []
  readonly grants = new Map<string, Grant>()
  /** OAuth2 access tokens that are issued within one second are the same. */
  readonly byAccess = new Map<string, Array<Grant>>()
  private readonly sends = new Map<string, Array<Send>>()
  private readonly refused = new Set<string>()
  private readonly reissues = new Map<string, number>()
  private readonly claims = new Map<string, Array<number>>()
  private readonly resets = new Map<string, Array<number>>()
  private readonly rejectedClaims = new Map<string, number>()
  /** Every version stored for a user, with its instant. */
  private readonly versions = new Map<string, Array<{ readonly version: number; readonly at: number }>>()
  private readonly marks = new Map<string, number>()
  /** By user: the pair that an import stored, as long as nothing else stored one, and when an import did so last. */
  private readonly importedPairs = new Map<string, Grant>()
  private readonly imports = new Map<string, number>()
  private readonly everImported = new Set<string>()
  private grantCount = 0

  constructor(
    private readonly driver: Driver,
    private readonly epoch: number,
    private readonly probeDelay: number,
    private readonly callTimeout: number,
    private readonly isCalm: boolean
  ) {}

  report(rule: string, detail: string): void {
    this.violations.push({ rule, detail, at: this.driver.now - this.epoch })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Where each pair is
  // -------------------------------------------------------------------------------------------------------------------

  granted(pair: Pick<Grant, "refreshToken" | "accessToken" | "hash" | "account" | "expiresAt">): Grant {
    const grant: Grant = {
      ...pair,
      name: `pair${++this.grantCount}`,
      at: this.driver.now,
      origin: "person",
      state: "flying",
      why: "",
      holder: undefined,
      heldAt: undefined,
      writtenBy: undefined,
      version: undefined,
      sealedFor: undefined
    }
    this.grants.set(grant.hash, grant)
    this.byAccess.set(grant.accessToken, [...(this.byAccess.get(grant.accessToken) ?? []), grant])
    return grant
  }

  /** Cal.com issued an access token alone: the refresh token that was there before stays. */
  renewed(hash: string, pair: Pick<Grant, "accessToken" | "expiresAt">): void {
    const before = this.grants.get(hash)
    if (before === undefined) return
    const grant = { ...before, ...pair, version: undefined }
    this.byAccess.set(grant.accessToken, [...(this.byAccess.get(grant.accessToken) ?? []), grant])
  }

  /** The user was given up. */
  marked(userUlid: string): void {
    this.marks.set(userUlid, this.driver.now)
  }

  markedAt(userUlid: string): number {
    return this.marks.get(userUlid) ?? Infinity
  }

  nameOf(hash: string | undefined): string {
    return hash === undefined ? "nothing" : (this.grants.get(hash)?.name ?? "an unknown pair")
  }

  /** The second system has it. */
  elsewhere(grant: Grant, origin: "person" | "elsewhere"): void {
    grant.state = "elsewhere"
    grant.origin = origin
  }

  /** An import stored a pair, or did not; `before` and `after` are what the row had. */
  imported(
    user: string,
    given: string,
    before: { readonly hash: string; readonly isSameAccount: boolean } | undefined,
    after: string | undefined
  ): void {
    const pair = this.grants.get(given)
    const known = before === undefined ? undefined : this.grants.get(before.hash)
    const isOurs = before !== undefined && this.importedPairs.get(user)?.hash !== before.hash
    if (pair === undefined) return this.report("import", "a pair is imported that nobody granted")
    if (after !== given) {
      if (after !== before?.hash)
        this.report("import", `${this.nameOf(after)} is there after an import of ${pair.name}`)
      const isNewer = known !== undefined && pair.at > known.at
      if (before === undefined || (!isOurs && isNewer && before.isSameAccount)) {
        this.report("import", `${pair.name} is left aside, with ${this.nameOf(before?.hash)} in the row`)
      }
      return
    }
    if (before?.hash === given) return
    if (isOurs) this.report("import", `${pair.name} replaces ${known?.name}, which came otherwise`)
    if (known !== undefined && pair.at < known.at) {
      this.report("import", `${pair.name} replaces ${known.name}, which is newer`)
    }
    this.importedPairs.set(user, pair)
    this.imports.set(user, this.driver.now)
    this.everImported.add(user)
  }

  /** A pair came otherwise; `isHandedIn`: from a person, and the row forgets that it was imported. */
  cameOtherwise(user: string, isHandedIn: boolean): void {
    this.importedPairs.delete(user)
    if (isHandedIn) this.imports.delete(user)
  }

  /** Whether an import ever stored a pair. */
  wasImported(user: string): boolean {
    return this.everImported.has(user)
  }

  /** When an import stored a pair last, if that is remembered. */
  importedAt(user: string): number | undefined {
    return this.imports.get(user)
  }

  arrived(grant: Grant, holder: Process): void {
    if (grant.state !== "flying") return
    grant.state = "held"
    grant.holder = holder
    grant.heldAt = this.driver.now
  }

  lost(grant: Grant, why: string): void {
    if (grant.state === "stored" || grant.state === "lost") return
    grant.state = "lost"
    grant.why = why
  }

  /** A pair is written. `accessToken`: the one it serves, which may be an earlier or a later one than it came with. */
  stored(hash: string, version: number | undefined, accessToken?: string): void {
    for (const other of accessToken === undefined ? [] : (this.byAccess.get(accessToken) ?? [])) {
      if (version !== undefined) other.version = Math.max(version, other.version ?? 0)
    }
    const grant = this.grants.get(hash)
    if (grant === undefined) return
    if (grant.holder !== undefined) grant.writtenBy = { process: grant.holder, at: this.driver.now }
    grant.state = "stored"
    grant.holder = undefined
    if (version !== undefined) grant.version = version
  }

  /** An answer was written that nobody can read, or not even that, because its user is gone. */
  sealed(user: string, text: string, isKept: boolean): void {
    for (const grant of this.grants.values()) {
      if ((grant.state !== "held" && grant.state !== "flying") || !text.includes(grant.refreshToken)) continue
      grant.state = isKept ? "sealed" : "discarded"
      grant.sealedFor = user
      grant.holder = undefined
    }
  }

  /** A reissue brought the pair of this version. */
  reissued(user: string, version: number): void {
    this.reissues.set(user, version)
  }

  reissuedVersion(user: string): number {
    return this.reissues.get(user) ?? 0
  }

  wasRefused(hash: string): boolean {
    return this.refused.has(hash)
  }

  isSealed(user: string): boolean {
    return [...this.grants.values()].some(({ sealedFor, state }) => state === "sealed" && sealedFor === user)
  }

  /** Whoever hands in a pair, or disconnects, has no use for what is sealed. */
  unsealed(user: string): void {
    for (const grant of this.grants.values()) {
      if (grant.state === "sealed" && grant.sealedFor === user) grant.state = "discarded"
    }
  }

  /** A row has this version now. */
  versioned(user: string, version: number): void {
    const versions = this.versions.get(user) ?? []
    this.versions.set(user, versions)
    if ((versions.at(-1)?.version ?? 0) < version) versions.push({ version, at: this.driver.now })
  }

  /** The newest version that was stored before an instant. */
  versionBefore(
    user: string,
    instant: number,
    isIncluded = true
  ): { readonly version: number; readonly at: number } | undefined {
    return this.versions.get(user)?.findLast(({ at }) => at < instant || (isIncluded && at === instant))
  }

  died(process: Process): void {
    for (const grant of this.grants.values()) {
      if ((grant.state === "held" || grant.state === "flying") && grant.holder === process)
        this.lost(grant, `${process.name} died with it`)
    }
    for (const sends of this.sends.values()) {
      for (const send of sends) {
        if (send.by === process && send.outcome === "pending") {
          send.outcome = "unknown"
          send.endedAt = this.driver.now
        }
      }
    }
  }

  heldBy(process: Process): ReadonlyArray<Grant> {
    return [...this.grants.values()].filter((grant) => grant.state === "held" && grant.holder === process)
  }

  /** A user was disconnected: what was stored of the account went with the row. */
  givenAway(account: number | undefined): void {
    for (const grant of this.grants.values()) {
      if (grant.account === account && grant.state === "stored") grant.state = "discarded"
    }
  }

  /** Among what Cal.com would accept of an account, is there a pair that we have no excuse for not having? */
  liveWithoutExcuse(account: number, isLive: (grant: Grant) => boolean): ReadonlyArray<Grant> {
    return [...this.grants.values()].filter(
      (grant) =>
        grant.account === account &&
        grant.state !== "lost" &&
        grant.state !== "discarded" &&
        grant.state !== "elsewhere" &&
        isLive(grant)
    )
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Spending
  // -------------------------------------------------------------------------------------------------------------------

  /** A refresh token leaves for Cal.com. */
  sending(by: Process, hash: string, attempt: Attempt | undefined): (outcome: Send["outcome"]) => void {
    const { now } = this.driver
    const sends = this.sends.get(hash) ?? []
    this.sends.set(hash, sends)
    // A refusal tells of every send, earlier or later, that it does no harm any more.
    const open = this.refused.has(hash) ? [] : sends.filter(({ outcome }) => outcome !== "notSpent")
    const name = this.nameOf(hash)
    if (attempt !== undefined && now > attempt.leaseUntil) {
      this.report("lease", `${by.name} sends ${name} ${now - attempt.leaseUntil} ms after its lease was over`)
    }
    // Fallbacks are tried when all else is refused: their last outcome may be unknown.
    if (open.length > 0 && attempt?.isFallback !== true) {
      if (attempt?.probe !== hash) {
        this.report("spend once", `${by.name} sends ${name} again, and not as a probe`)
      } else {
        // An answer that comes late does not make the outcome unknown a second time.
        const known = (send: Send) => (send.outcome === "unknown" ? send.endedAt : send.at)
        const last = Math.max(...open.map((send) => Math.min(known(send), send.at + this.callTimeout)))
        if (now - last < this.probeDelay - 1) {
          this.report("probe later", `${by.name} probes ${name} ${now - last} ms after its outcome became unknown`)
        }
      }
    }
    if (this.isCalm && sends.length > 0) this.report("one refresh per expiry", `${name} is spent twice`)
    const send: Send = { by, at: now, outcome: "pending", endedAt: now }
    sends.push(send)
    return (outcome) => {
      send.outcome = outcome
      send.endedAt = this.driver.now
      if (outcome === "rejected") this.refused.add(hash)
      // It stays in use (RFC 6749 section 6), whatever became of it before.
      if (outcome === "kept") this.sends.delete(hash)
    }
  }

  /** The storage granted a claim. */
  claimed(user: string, isRejection: boolean, rejectedInterval: number): void {
    const { now } = this.driver
    const claims = (this.claims.get(user) ?? []).filter((at) => at > now - 30_000)
    claims.push(now)
    this.claims.set(user, claims)
    const resets = (this.resets.get(user) ?? []).filter((at) => at > now - 60_000)
    this.resets.set(user, resets)
    // Two full windows can meet, and an expiry opens one more.
    if (claims.length > 9 + 3 * resets.length) {
      this.report("cooldown", `${claims.length} attempts for ${user} within 30 s`)
    }
    if (!isRejection) return
    const last = this.rejectedClaims.get(user)
    if (last !== undefined && now - last < rejectedInterval) {
      this.report("cooldown", `two refreshes within ${now - last} ms because of rejections of ${user}'s token`)
    }
    this.rejectedClaims.set(user, now)
  }

  /** The attempt left no trace. */
  released(user: string): void {
    this.claims.get(user)?.pop()
    this.rejectedClaims.delete(user)
  }

  /** A pair was handed in, perhaps not for the first time: whatever was counted or known of it starts again. */
  handedIn(user: string, hash: string): void {
    this.sends.delete(hash)
    const resets = this.resets.get(user) ?? []
    resets.push(this.driver.now)
    this.resets.set(user, resets)
    this.rejectedClaims.delete(user)
    this.reissues.delete(user)
  }
}
