/**
 * The circuits of clients as the design has them, from what the storage was told: whose refreshes may begin while one is
 * open. Where the design leaves room, this model closes sooner and allows more.
 */
import { Duration } from "effect"
import type { ClaimRequest, ClaimResult } from "../../src/TokenStorage.js"

interface Open {
  readonly cause: "client" | "drift"
  readonly openedAt: number
  /** Not before that the next trial, and the next one that puts somebody at risk. */
  trialAt: number
  riskAt: number
  risks: number
}

const minute = 60_000

export class Circuits {
  private readonly open = new Map<string, Open>()
  /** Whom Cal.com ever refused. */
  private readonly refused = new Set<string>()
  private readonly attempts = new Map<string, number>()
  private readonly answers = new Set<string>()

  constructor(private readonly report: (rule: string, detail: string) => void) {}

  /** Cal.com refused the client, or gave an answer that nobody understands, and the storage knows. */
  opened(key: string, cause: Open["cause"], now: number, interval: number): void {
    if (cause === "client") this.refused.add(key)
    const present = this.open.get(key)
    if (present?.cause === "drift" || present?.cause === cause) return
    this.open.set(key, { cause, openedAt: now, trialAt: now + interval, riskAt: now + minute, risks: 0 })
  }

  /** Whether an answer that nobody understands was not stored before: whoever did not hear of that offers it again. */
  isNews(answer: string): boolean {
    return this.answers.size < this.answers.add(answer).size
  }

  /** A pair came of an attempt, or was read in a sealed answer. */
  granted(key: string, attemptId: string | undefined): void {
    const claimedAt = attemptId === undefined ? Infinity : (this.attempts.get(attemptId) ?? -Infinity)
    const present = this.open.get(key)
    if (present !== undefined && claimedAt >= present.openedAt) this.open.delete(key)
  }

  /** A user was refused for good. */
  rejected(key: string, attemptId: string): void {
    if (this.open.get(key)?.cause === "client") this.granted(key, attemptId)
  }

  isDrifting(key: string): boolean {
    return this.open.get(key)?.cause === "drift"
  }

  /** Somebody heard of a refusal, whatever becomes of it. */
  heard(key: string): void {
    this.refused.add(key)
  }

  wasRefused(key: string): boolean {
    return this.refused.has(key)
  }

  claimed(key: string, request: ClaimRequest, result: ClaimResult, now: number, name: string): void {
    if (result._tag === "Held" && result.cause === "client" && !this.refused.has(key)) {
      this.report("circuit", `${name} is held for a refusal of somebody else's client`)
    }
    if (result._tag !== "Claimed" || request.purpose._tag === "Hold") return
    this.attempts.set(request.attemptId, now)
    const present = this.open.get(key)
    if (present === undefined) return
    const rule = present.cause === "drift" ? "drift" : "circuit"
    if (result.trial === undefined) return this.report(rule, `a refresh of ${name} begins while the circuit is open`)
    const interval = request.circuit === undefined ? 0 : Duration.toMillis(request.circuit.interval)
    if (present.cause === "client" || result.row.connection._tag === "ManagedUser") {
      if (now < present.trialAt - 1) this.report(rule, `${name} is tried ${present.trialAt - now} ms too early`)
      if (present.cause === "drift" && result.trial !== "reissue")
        this.report(rule, `a trial spends the token of ${name}`)
      present.trialAt = now + interval
      return
    }
    if (now < present.riskAt - 1) this.report(rule, `${name} is put at risk ${present.riskAt - now} ms too early`)
    if (request.expiredFor === undefined) this.report(rule, `${name} is put at risk without being in need`)
    present.risks++
    present.riskAt = now + Math.min(60, 2 ** Math.min(present.risks, 6)) * minute
  }
}
