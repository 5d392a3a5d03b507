/** What is known when an answer is read: whose tokens it should hold, and which refresh tokens are no news. */
import { Option, Predicate, Redacted } from "effect"
import { hash, type TokenPair } from "../../Token.js"
import * as Claims from "./Claims.js"

/**
 * What is kept of the user at the time of a call. The more is known, the less can be taken for something else.
 *
 * @since 0.1.0
 * @category models
 */
export interface Kept {
  /** The pair of the row. Its access token is kept beside a refresh token that comes alone. */
  readonly stored?: TokenPair | undefined
  /** Hashes (`Token.hash`) of other refresh tokens that are kept, the fallbacks: to meet one of them again is no news. */
  readonly known?: ReadonlyArray<string> | undefined
}

export interface Context extends Kept {
  readonly kind: "managed" | "oauth2"
  readonly clientId: string
  /** The Cal.com user whose tokens they have to be. Where nobody named one, what stored and sent tokens say counts. */
  readonly calUserId?: number | undefined
  /** The refresh token that was sent, if one was. */
  readonly sent?: Redacted.Redacted | undefined
  /** When Cal.com answered, in its time, in milliseconds. */
  readonly issuedAt: number
  /** Whether the answer came to its end. */
  readonly isWhole: boolean
}

/** What the claims of new tokens have to agree with. */
export const expected = ({ calUserId, clientId, sent, stored }: Context): Claims.Expected => {
  const [access, refresh] = [claimsOf(stored?.accessToken), claimsOf(stored?.refreshToken)]
  // Of a fallback only the refresh token is at hand: its pair is not the one that is replaced.
  const isStored = stored !== undefined && (sent === undefined || isSame(sent, stored.refreshToken))
  const spent = sent === undefined || isStored ? refresh : claimsOf(sent)
  const named = [access, refresh, spent].flatMap((claims) => claims?.calUserIds ?? [])
  const issued = isStored ? [refresh, access] : sent === undefined ? [] : [spent]
  return {
    clientId,
    calUserId: calUserId ?? named[0],
    notBefore: issued.map((claims) => claims?.issuedAt).find(Predicate.isNotUndefined)
  }
}

const claimsOf = (token: Redacted.Redacted | undefined): Claims.Claims | undefined =>
  token === undefined ? undefined : Option.getOrUndefined(Claims.read(Redacted.value(token)))

/** Whether a text is a refresh token that was sent, stored or kept before. */
export const isKnown = ({ known = [], sent, stored }: Context): ((text: string) => boolean) => {
  const texts = new Set([sent, stored?.refreshToken].flatMap((token) => (token ? [Redacted.value(token)] : [])))
  const hashes = new Set(known)
  return (text) => texts.has(text) || (hashes.size > 0 && hashes.has(hash(Redacted.make(text))))
}

export const isSame = (a: Redacted.Redacted, b: Redacted.Redacted): boolean => Redacted.value(a) === Redacted.value(b)
