/** What the service answers about users, as it travels, and how it fails. No page is needed for it. */
import type { Connection, ConnectionHistory, ConnectionStatus, ListedConnection } from "../Api/Connections.js"
import type { Tag } from "../Api/Failure.js"

/** `Away`: there was no answer, or none of the service's. */
export type Code = Tag | "Away"

export class ServiceError extends Error {
  override readonly name = "ServiceError"
  constructor(
    readonly code: Code,
    /** For people. */
    override readonly message: string,
    /** The HTTP status; 0 without an answer. */
    readonly status: number,
    /** Seconds after which the same may succeed. */
    readonly retryAfter?: number
  ) {
    super(message)
  }
}

type Encoded<S extends { readonly Encoded: unknown }> = S["Encoded"]
export type ConnectionFacts = Encoded<typeof Connection>
export type ListedUser = Encoded<typeof ListedConnection>
export type UserHistory = Encoded<typeof ConnectionHistory>
export type Status = Encoded<typeof ConnectionStatus>

export interface Refreshed {
  readonly refreshed: boolean
  readonly expiresAt: string
  readonly retryAfter?: number
}
