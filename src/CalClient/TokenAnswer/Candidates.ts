/**
 * The tokens in an answer: what stands under their names, without what cannot be them. Two that could both be it are
 * none, because a wrong guess would be stored as somebody's only token.
 */
import { Array as Arr, Either, Iterable, Option, Redacted } from "effect"
import { maxTokenLength, parseInstant } from "../../TokenInput.js"
import * as Claims from "./Claims.js"
import * as Context from "./Context.js"
import type { Json, Member } from "./Json.js"
import * as Names from "./Names.js"

/** A text that stands, perhaps more than once, where a token is expected. */
export interface Candidate {
  readonly text: string
  readonly places: ReadonlyArray<{ readonly depth: number; readonly name: string }>
  readonly claims: Option.Option<Claims.Claims>
}

/** Why nothing of an answer may be taken. `isUsers`: it may be one user's matter. */
export interface Refusal {
  readonly reason: string
  readonly isUsers: boolean
}

export interface Found {
  readonly access: Candidate | undefined
  readonly refresh: Candidate | undefined
  /** The fields beside the tokens. */
  readonly members: ReadonlyArray<Member>
  /** Whether anything else in the answer could be a refresh token that is new. */
  readonly mayHoldMore: () => boolean
}

/** No answer needs more of one kind, and each of them costs time. */
const maxCandidates = 8

/** Printable ASCII without spaces, so that it can travel in a header. */
const isToken = (text: string): boolean => text.length <= maxTokenLength && /^[\x21-\x7e]+$/.test(text)

const refuse = (reason: string, isUsers = false) => Either.left<Refusal>({ reason, isUsers })

const namesOf: Readonly<Record<Claims.Role, string>> = { access: Names.accessToken, refresh: Names.refreshToken }

export const search = (answer: Json, context: Context.Context): Either.Either<Found, Refusal> => {
  const expected = Context.expected(context)
  const isKnown = Context.isKnown(context)
  const levels = Names.levels(answer)
  const members = levels.flatMap((level) => level.members)
  if (members.some(([name, value]) => Names.plain(name) === "error" && value !== null)) {
    return refuse("it names an error although its status says success")
  }

  /** Every text under the name, once; of too many, one more than is allowed. */
  const texts = (role: Claims.Role): ReadonlyArray<Candidate> => {
    const places = levels.flatMap(({ depth, members }) =>
      members.flatMap(([name, value]) =>
        Names.plain(name) === namesOf[role] && typeof value === "string" && value !== ""
          ? [{ text: value, depth, name }]
          : []
      )
    )
    const byText = Object.values(Arr.groupBy(places, ({ text }) => `:${text}`))
    return byText.slice(0, maxCandidates + 1).map((places) => ({
      text: places[0].text,
      places,
      claims: Claims.read(places[0].text)
    }))
  }
  const faultOf = (role: Claims.Role, { claims }: Candidate) =>
    Option.flatMapNullable(claims, (each) => Claims.faultOf(each, role, expected))

  const [accesses, refreshes] = [texts("access"), texts("refresh")]
  if (Math.max(accesses.length, refreshes.length) > maxCandidates) return refuse("it holds too many tokens")
  const named = {
    access: accesses.filter(({ text }) => !isKnown(text)),
    refresh: refreshes.filter(({ text }) => !isKnown(text))
  }
  const all = [...named.access, ...named.refresh]
  const faults = Arr.getSomes([
    ...named.access.map((each) => faultOf("access", each)),
    ...named.refresh.map((each) => faultOf("refresh", each))
  ])
  if (faults.includes("client")) return refuse("its tokens are another client's")
  const users = new Set(all.flatMap(({ claims }) => Option.toArray(claims).flatMap(({ calUserIds }) => calUserIds)))
  if (faults.includes("user") || users.size > 1) return refuse("its tokens name another Cal.com user", true)

  const fitting = (role: Claims.Role) =>
    named[role].filter((each) => isToken(each.text) && Option.isNone(faultOf(role, each)))
  const [access, secondAccess] = fitting("access")
  const [refresh, secondRefresh] = fitting("refresh")
  if (secondAccess !== undefined) return refuse("it holds two different access tokens")
  if (secondRefresh !== undefined) return refuse("it holds two different refresh tokens")
  if (access !== undefined && access.text === refresh?.text) return refuse("its access token and refresh token are one")

  const isNews = (text: string) =>
    text !== access?.text &&
    text !== context.clientId &&
    (context.stored === undefined || text !== Redacted.value(context.stored.accessToken)) &&
    !isKnown(text)

  /** A text that is as long as a token, and neither something else by its form nor by its claims. */
  const mayBeRefreshToken = (text: string) =>
    text.length >= 16 &&
    !/\s/.test(text) &&
    !/^https?:/i.test(text) &&
    Option.isNone(parseInstant(text)) &&
    isNews(text) &&
    !Option.exists(Claims.read(text), (claims) => Claims.faultOf(claims, "refresh", expected) !== undefined)

  return Either.right({
    access,
    refresh,
    members,
    mayHoldMore: () =>
      // What is called a refresh token was meant as one, whatever is wrong with it.
      named.refresh.some(({ text }) => text !== refresh?.text && isNews(text)) ||
      Iterable.some(Names.namelessTexts(answer), mayBeRefreshToken)
  })
}

/** The Cal.com user whom the tokens name. */
export const calUserIdOf = ({ access, refresh }: Found): { readonly calUserId?: number } => {
  const [calUserId] = [access, refresh].flatMap((each) =>
    each === undefined || Option.isNone(each.claims) ? [] : each.claims.value.calUserIds
  )
  return calUserId === undefined ? {} : { calUserId }
}
