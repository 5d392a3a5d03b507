/**
 * An answer before it is written. Whoever changes it knows which token is where and what was done to it, so that what is
 * right follows from this alone.
 */
import type { Prng } from "../simulation/Prng.js"
import * as Text from "./Text.js"
import * as Tokens from "./Tokens.js"

export interface Expiry {
  readonly name: string
  readonly value: Text.Value
  /** What it says, in milliseconds; undefined if it says nothing that can be. */
  readonly means: number | undefined
}

export interface Encoding {
  readonly name: "gzip" | "br" | "deflate" | "deflate-raw"
  /** Whether a header says so. */
  readonly isSaid: boolean
  /** Whether it is so: an HTTP client may have decoded it and left the header. */
  readonly isDone: boolean
}

export interface Draft {
  readonly prng: Prng
  readonly before: Tokens.Before
  access: string | undefined
  refresh: string | undefined
  /** When the access token says that it ends; undefined if it says nothing. */
  accessEnd: number | undefined
  names: { access: string; refresh: string }
  /** The same tokens once more, beside themselves under another spelling. */
  copies: Array<{ readonly role: Tokens.Role; readonly name: string }>
  expiry: Expiry | undefined
  /** How often the tokens are wrapped in `data`. */
  depth: number
  /** Beside the tokens. */
  beside: Array<Text.Field>
  /** Beside the outermost wrapper, if there is one. */
  around: Array<Text.Field>
  isShuffled: boolean
  style: Text.Style
  /** Makes something else of the answer. */
  wrap: (answer: Text.Value) => Text.Value
  /** Makes something else of its text. */
  edit: (text: string) => string
  encoding: Encoding | undefined
  /** In how many pieces it comes. */
  pieces: number
  /** How much of it comes. */
  share: number
  status: number
  /** Something is in it that may be a refresh token and is not under its name. */
  mayHoldMore: boolean
  /** Nothing of it may be taken. */
  isForeign: boolean
}

export const contract = {
  managed: { access: "accessToken", refresh: "refreshToken", expiry: "accessTokenExpiresAt", depth: 1 },
  oauth2: { access: "access_token", refresh: "refresh_token", expiry: "expires_in", depth: 0 }
} as const

/** An answer as Cal.com gives it. */
export const make = (prng: Prng): Draft => {
  const before = Tokens.draw(prng)
  const { kind, userId } = before
  const owner = { userId, issuedAt: Tokens.now }
  const { access, depth, expiry, refresh } = contract[kind]
  const end = Tokens.endOf(kind, "access", Tokens.now)
  return {
    prng,
    before,
    access: Tokens.token(prng, kind, "access", owner),
    refresh: Tokens.token(prng, kind, "refresh", owner),
    accessEnd: end,
    names: { access, refresh },
    copies: [],
    expiry: { name: expiry, value: kind === "managed" ? end : (end - Tokens.now) / 1000, means: end },
    depth,
    beside:
      kind === "managed"
        ? [{ name: "refreshTokenExpiresAt", value: Tokens.endOf(kind, "refresh", Tokens.now) }]
        : [
            { name: "token_type", value: "bearer" },
            { name: "scope", value: "BOOKING_READ PROFILE_READ" }
          ],
    around: kind === "managed" ? [{ name: "status", value: "success" }] : [],
    isShuffled: false,
    style: Text.plain,
    wrap: (answer) => answer,
    edit: (text) => text,
    encoding: undefined,
    pieces: 1,
    share: 1,
    status: 200,
    mayHoldMore: false,
    isForeign: false
  }
}
