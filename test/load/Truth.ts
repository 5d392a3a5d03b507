/** What Cal.com knows of a run, and what is done to the fleet on purpose: the facts that it is judged by. */

export type Kind = "managed" | "oauth2"

/** A pair as somebody was given it. Instants in ms since the epoch. */
export interface Pair {
  readonly calUserId: number
  readonly accessToken: string
  readonly refreshToken: string
  readonly issuedAt: number
  readonly accessTokenExpiresAt: number
}

/** A pair that left Cal.com as it should: handed to a process of the fleet, or to whoever connects a user. */
export interface Answer {
  readonly calUserId: number
  /** Of the refresh token, as `Token.hash` has it. */
  readonly hash: string
  /** When it was asked for, and when it was answered. */
  readonly begunAt: number
  readonly at: number
  readonly expiresAt: number
  /** Which process of the fleet was answered; none: the pair was handed in from outside. */
  readonly slot: number | undefined
}

/** A call to a token endpoint, with whatever became of its answer. */
export interface Spending {
  readonly calUserId: number | undefined
  /** When it arrived. */
  readonly at: number
  /** The refresh token that was presented; none for a reissue. */
  readonly presented: string | undefined
  /** The one that Cal.com granted. */
  readonly issued: string | undefined
  /** The mishap that struck it. */
  readonly fault: string | undefined
}

/** Something that was done to a user at Cal.com on purpose. */
export interface Deed {
  readonly calUserId: number
  readonly at: number
  /** `revoked`: all refresh tokens; `removed`: the account; `handedIn`: connected anew, with this pair. */
  readonly what: "revoked" | "removed" | "handedIn"
  readonly hash?: string
}

/** A process that was killed without notice. */
export interface Death {
  readonly slot: number
  readonly at: number
  /** When it last said how it was: a machine that is busy may not have let it run since. */
  readonly aliveAt: number
}

export interface Truth {
  readonly answers: ReadonlyArray<Answer>
  readonly spendings: ReadonlyArray<Spending>
  /** Refresh tokens that Cal.com would take now and that left it as they should, by their hashes. */
  readonly live: ReadonlyArray<{ readonly calUserId: number; readonly hash: string }>
  /** How many others it would take: nobody was told of them. */
  readonly unknownToAll: number
}
