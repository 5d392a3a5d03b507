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

/** The claims of those tokens that have any, in this order. */
const claimsOf = (...tokens: ReadonlyArray<Redacted.Redacted | undefined>): ReadonlyArray<Claims.Claims> =>
  tokens.flatMap((token) => (token === undefined ? [] : Option.toArray(Claims.read(Redacted.value(token)))))

/** What the claims of new tokens have to agree with. */
export const expected = ({ calUserId, clientId, sent, stored }: Context): Claims.Expected => {
  const named = claimsOf(stored?.accessToken, stored?.refreshToken, sent).flatMap(({ calUserIds }) => calUserIds)
  // The pair that is replaced: of a fallback only the refresh token is at hand.
  const isStored = stored !== undefined && (sent === undefined || isSame(sent, stored.refreshToken))
  const issued = claimsOf(sent, ...(isStored ? [stored.refreshToken, stored.accessToken] : []))
  return {
    clientId,
    calUserId: calUserId ?? named[0],
    notBefore: issued.map(({ issuedAt }) => issuedAt).find(Predicate.isNotUndefined)
  }
}

/** Whether a text is a refresh token that was sent, stored or kept before. */
export const isKnown = ({ known = [], sent, stored }: Context): ((text: string) => boolean) => {
  const hashes = new Set([...known, ...[sent, stored?.refreshToken].flatMap((token) => (token ? [hash(token)] : []))])
  return (text) => hashes.size > 0 && hashes.has(hash(Redacted.make(text)))
}

export const isSame = (a: Redacted.Redacted, b: Redacted.Redacted): boolean => Redacted.value(a) === Redacted.value(b)
