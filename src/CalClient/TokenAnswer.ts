/**
 * The successful answer of a token endpoint. The refresh token that was sent is spent by then, so an answer that holds
 * the next one is never thrown away for being odd. Names propose (any spelling, at the top or wrapped in `data`), claims
 * decide (a token that says it is of another kind, client, user or time is not taken), and what cannot be read is handed
 * on whole, for a program that can.
 */
import { Data, Either, Option, Redacted } from "effect"
import * as Decoding from "../CalHttp/Decoding.js"
import type { TokenPair } from "../Token.js"
import * as Candidates from "./TokenAnswer/Candidates.js"
import * as Claims from "./TokenAnswer/Claims.js"
import type { Context } from "./TokenAnswer/Context.js"
import * as Departure from "./TokenAnswer/Departure.js"
import * as Json from "./TokenAnswer/Json.js"
import * as Names from "./TokenAnswer/Names.js"
import * as Pair from "./TokenAnswer/Pair.js"

export type { Context, Kept } from "./TokenAnswer/Context.js"
export type { Departure } from "./TokenAnswer/Departure.js"

/**
 * An answer in which a new refresh token may be that was not found.
 *
 * @since 0.1.0
 * @category models
 */
export interface Unread {
  /** As it came, at most 64 KiB of it. */
  readonly bytes: Redacted.Redacted<Uint8Array>
  /** What was missing, in plain words and without a value of the answer. */
  readonly reason: string
  /**
   * Whether it means that Cal.com's answers have changed: `now`; only when a `secondUser` meets it too, because it may be
   * a maintenance page, or one user's matter; `never`, because the connection broke.
   */
  readonly drift: "now" | "secondUser" | "never"
  /** When Cal.com answered, in its time, in milliseconds. */
  readonly issuedAt: number
}

/**
 * What a token endpoint granted.
 *
 * @since 0.1.0
 * @category models
 */
export interface Grant {
  /** Always whole: what the answer did not hold is what was stored or sent, see `news`. */
  readonly pair: TokenPair
  /**
   * What of the pair is new. `refreshToken`: access token and expiry are the stored ones. `accessToken`: the refresh token
   * is the one that was sent; it stays in use (RFC 6749 section 6), unless there is an `unread` answer.
   */
  readonly news: "pair" | "accessToken" | "refreshToken"
  /** Beside an access token that came alone: a new refresh token may be in here, and the one that was sent spent. */
  readonly unread?: Unread | undefined
  /** OAuth2 only. */
  readonly scope?: string | undefined
  /** From the tokens' own claims; they came straight from the token endpoint. */
  readonly calUserId?: number | undefined
  /** Where the answer departs from Cal.com's contract. */
  readonly departures: ReadonlyArray<Departure.Departure>
}

export type Reading = Data.TaggedEnum<{
  Granted: { readonly grant: Grant }
  /** The connection broke before anything came that may be a new refresh token: nothing is worth keeping. */
  BrokenOff: {}
  Unreadable: { readonly answer: Unread }
}>
export const Reading = Data.taggedEnum<Reading>()

interface Document extends Json.Text {
  readonly isEncoded: boolean
}

/** The first meaning of the bytes that is JSON, or begins as such. */
const parse = (bytes: Uint8Array): Document | undefined => {
  for (const meaning of Decoding.meanings(bytes)) {
    const text = Json.parse(new TextDecoder().decode(meaning))
    if (Option.isSome(text)) return { ...text.value, isEncoded: meaning !== bytes }
  }
  return undefined
}

const maxKept = 64 * 1024

/** What an answer holds. Pure: the same bytes can be read again by a later program that knows more. */
export const read = (bytes: Uint8Array, context: Context): Reading => {
  const unread = (reason: string, drift: Unread["drift"] = "now"): Unread => ({
    bytes: Redacted.make(bytes.slice(0, maxKept)),
    reason,
    drift,
    issuedAt: context.issuedAt
  })
  const unreadable = (reason: string, drift?: Unread["drift"]) => Reading.Unreadable({ answer: unread(reason, drift) })

  const document = parse(bytes)
  if (document === undefined) return context.isWhole ? unreadable("it is not JSON", "secondUser") : Reading.BrokenOff()
  const search = Candidates.search(document.value, context)
  if (Either.isLeft(search)) return unreadable(search.left.reason, search.left.isUsers ? "secondUser" : "now")
  const found = search.right
  const grant = (news: Grant["news"], pair: TokenPair, open?: Unread): Reading =>
    Reading.Granted({
      grant: {
        pair,
        news,
        ...(open === undefined ? {} : { unread: open }),
        ...(context.kind === "oauth2" ? Names.scopeOf(found.members) : {}),
        ...Candidates.calUserIdOf(found),
        departures: Departure.of({ found, isCutOff: !document.isComplete, isEncoded: document.isEncoded }, context)
      }
    })

  const { access, refresh } = found
  const { sent, stored } = context
  if (refresh !== undefined) {
    if (access !== undefined) return grant("pair", Pair.whole(found, access, refresh, context))
    return stored === undefined
      ? unreadable("it holds no access token")
      : grant("refreshToken", Pair.withStored(found, refresh, stored, context))
  }
  if (!document.isComplete) {
    if (context.isWhole) return unreadable("it breaks off", "secondUser")
    return found.mayHoldMore() ? unreadable("it broke off before its refresh token", "never") : Reading.BrokenOff()
  }
  if (access === undefined) return unreadable("it holds no token that is new")
  if (stored !== undefined && access.text === Redacted.value(stored.accessToken)) {
    return unreadable("it holds no token that is new")
  }
  if (sent !== undefined) {
    const open = found.mayHoldMore() ? unread("no refresh token can be told from its other texts") : undefined
    return grant("accessToken", Pair.withKept(found, access, sent, context), open)
  }
  // A reissue ended the refresh token that is stored: it is kept because there is no other.
  return stored === undefined
    ? unreadable("it holds no refresh token")
    : grant(
        "accessToken",
        Pair.withKept(found, access, stored.refreshToken, context),
        unread("it holds no refresh token")
      )
}

/** The user in the answer to the creation of one. */
export const createdUserId = (bytes: Uint8Array): number | undefined =>
  Names.levels(parse(bytes)?.value ?? null)
    .flatMap(({ members }) => members)
    .flatMap(([name, value]) => (Names.plain(name) === "user" ? Names.members(value) : []))
    .flatMap(([name, value]) => (name === "id" ? Claims.calUserId(value) : []))[0]
