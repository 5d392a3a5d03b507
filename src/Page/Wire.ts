/** What `GET /api/cal/overview` answers, as it travels. */

export interface ByTrigger {
  readonly asked: number
  readonly refused: number
  readonly ahead: number
  readonly reissue: number
}

export interface Latency {
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

export interface RefreshMinute {
  readonly at: string
  readonly refreshed: ByTrigger
  readonly failed: ByTrigger & { readonly lapsed?: number }
  readonly reauthorizationRequired: number
  readonly latency?: Latency
}

export interface Budget {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
  readonly limit: number
  readonly remaining: number
  readonly resetsAt?: string
  readonly minutes: ReadonlyArray<{ readonly at: string; readonly remaining: number }>
}

export interface Circuit {
  readonly cause: "client" | "brake" | "drift" | "process"
  readonly clientId?: string
  readonly reason?: string
  readonly openedAt?: string
  readonly nextTrialAt?: string
}

export interface Overview {
  readonly at: string
  readonly process: { readonly name: string; readonly startedAt: string; readonly version: string }
  readonly users: { readonly active: number; readonly reauthorizationRequired: number; readonly isEstimated: boolean }
  readonly refreshes: {
    readonly minutes: ReadonlyArray<RefreshMinute>
    readonly latency?: Latency & { readonly max: number }
  }
  readonly expiries: {
    readonly overdue: number
    readonly minutes: ReadonlyArray<{ readonly at: string; readonly users: number }>
  }
  readonly budgets: ReadonlyArray<Budget>
  readonly circuits: ReadonlyArray<Circuit>
  readonly sealedAnswers: number
  readonly pairsHeld: number
}
