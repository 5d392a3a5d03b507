/** What may be done to an answer that holds a new token without its being lost. */
import { contract, type Draft } from "./Draft.js"
import { object, type Value } from "./Text.js"
import * as Tokens from "./Tokens.js"

const minute = 60_000
const horizon = 730 * 24 * 60 * minute

/** A name of two or more words in another spelling. */
export const spell = (draft: Draft, words: ReadonlyArray<string>): string => {
  const capital = (word: string) => word.charAt(0).toUpperCase() + word.slice(1)
  return draft.prng.pick([
    words.map((word, index) => (index === 0 ? word : capital(word))).join(""),
    words.join("_"),
    words.join("-"),
    words.join("_").toUpperCase(),
    words.map(capital).join(""),
    words.map(capital).join("-"),
    words.join("")
  ])
}

const tokenWords = { access: ["access", "token"], refresh: ["refresh", "token"] } as const

/** A text that could not be a token. */
const harmless = (draft: Draft): Value =>
  draft.prng.pick<() => Value>([
    () => Tokens.letters(draft.prng, draft.prng.int(0, 15)),
    () => "a sentence of more than sixteen letters",
    () => "2026-11-26T12:00:00.000Z",
    () => "https://app.cal.com/settings/my-account",
    () => draft.prng.int(-5, 2 ** 40),
    () => draft.prng.chance(0.5),
    () => null,
    () => [1, "two", null],
    () => object(["nested", object(["deeper", "x"])]),
    () => "ünï-cödé-🗝"
  ])()

const fieldName = (draft: Draft) =>
  draft.prng.pick(["region", "plan", "teamId", "v", "meta", "issued_at", "session", "названия", "__proto__", ""])

const expiries: ReadonlyArray<(draft: Draft, end: number) => readonly [value: Value, means: number | undefined]> = [
  (_, end) => [end, end],
  (_, end) => [String(end), end],
  (_, end) => [new Date(end).toISOString(), end],
  (_, end) => [new Date(end).toISOString().replace("Z", "+00:00"), end],
  (_, end) => [(end - Tokens.now) / 1000, end],
  (_, end) => [String((end - Tokens.now) / 1000), end],
  () => [0, undefined],
  () => [-1, undefined],
  () => ["0", undefined],
  () => ["", undefined],
  () => ["soon", undefined],
  () => [null, undefined],
  () => [true, undefined],
  () => [[1800], undefined],
  () => [object(["seconds", 1800]), undefined],
  () => [Tokens.now - minute, undefined],
  () => [Tokens.now + horizon + minute, undefined],
  () => ["2026-13-45T00:00:00Z", undefined]
]

export type Mutation = (draft: Draft) => void

/** With these an answer holds less than a pair. */
export const halves: ReadonlySet<string> = new Set([
  "access token dropped",
  "access token unusable",
  "refresh token dropped",
  "refresh token under another name"
])

/** In the order in which they are done to an answer. */
export const inclusions: Readonly<Record<string, Mutation>> = {
  "as contracted": () => undefined,
  renamed: (draft) => {
    draft.names = { access: spell(draft, tokenWords.access), refresh: spell(draft, tokenWords.refresh) }
  },
  rewrapped: (draft) => {
    draft.depth = draft.prng.int(0, 2)
  },
  "in the other contract's form": (draft) => {
    const other = contract[draft.before.kind === "managed" ? "oauth2" : "managed"]
    const end = Tokens.now + 17 * minute
    draft.names = { access: other.access, refresh: other.refresh }
    draft.depth = other.depth
    draft.expiry = {
      name: other.expiry,
      value: draft.before.kind === "managed" ? (end - Tokens.now) / 1000 : end,
      means: end
    }
  },
  "expiry dropped": (draft) => {
    draft.expiry = undefined
  },
  "expiry retyped": (draft) => {
    const end = Tokens.now + draft.prng.int(1, 120) * minute
    const [value, means] = draft.prng.pick(expiries)(draft, end)
    const name = draft.prng.pick([
      ["expires", "in"],
      ["expires", "at"],
      ["access", "token", "expires", "at"]
    ])
    draft.expiry = { name: spell(draft, name), value, means }
  },
  "other fields dropped": (draft) => {
    draft.beside = []
    draft.around = []
  },
  "fields added": (draft) => {
    for (let i = draft.prng.int(1, 4); i > 0; i--) draft.beside.push({ name: fieldName(draft), value: harmless(draft) })
    draft.around.push({ name: fieldName(draft), value: harmless(draft) })
  },
  "a null error added": (draft) => {
    ;(draft.prng.chance(0.5) ? draft.beside : draft.around).push({ name: "error", value: null })
  },
  "what was sent is quoted": (draft) => {
    const { fallback, stored } = draft.before
    const sent = draft.before.sent ?? stored.refresh
    const secret = Tokens.letters(draft.prng, 32)
    draft.around.push({
      name: draft.prng.pick(["request", "target", "details", "errors"]),
      value: object(["refresh_token", sent], ["client_secret", secret], ["refreshToken", fallback])
    })
    draft.beside.push({ name: spell(draft, tokenWords.refresh), value: draft.prng.pick([sent, fallback]) })
  },
  "tokens twice": (draft) => {
    const role = draft.prng.pick(["access", "refresh"] as const)
    draft.copies.push({ role, name: spell(draft, tokenWords[role]) })
  },
  "an ID token added": (draft) => {
    const { userId } = draft.before
    draft.beside.push({ name: "id_token", value: Tokens.jwt(draft.prng, { sub: String(userId), nonce: "n" }) })
  },
  shuffled: (draft) => {
    draft.isShuffled = true
  },
  "written otherwise": (draft) => {
    const { prng } = draft
    draft.style = {
      indentation: prng.pick(["", " ", "  ", "\t"]),
      escapes: prng.pick([0, 0.05, 0.5]),
      before: prng.pick(["", "\ufeff", "\n", " \r\n", "\ufeff "])
    }
  },
  "opaque tokens": (draft) => {
    const { prng } = draft
    if (draft.access !== undefined) draft.access = Tokens.letters(prng, prng.int(8, 64))
    if (draft.refresh !== undefined) draft.refresh = Tokens.letters(prng, prng.int(8, 64))
    draft.accessEnd = undefined
  },
  "other claims": (draft) => {
    const { kind, userId } = draft.before
    const changes = draft.prng.pick<object>([
      { type: undefined, token_type: undefined },
      { exp: undefined, expiresAt: undefined },
      { userId: String(userId), ownerId: String(userId) },
      { userId, ownerId: userId },
      { userId: undefined, ownerId: undefined },
      { clientId: undefined },
      { iat: undefined },
      { iat: Math.floor(draft.before.issuedAt / 1000) }
    ])
    const owner = { userId, issuedAt: Tokens.now }
    if (draft.access !== undefined) draft.access = Tokens.token(draft.prng, kind, "access", owner, changes)
    if (draft.refresh !== undefined) draft.refresh = Tokens.token(draft.prng, kind, "refresh", owner, changes)
    if (draft.access !== undefined) {
      draft.accessEnd = "exp" in changes ? undefined : Tokens.endOf(kind, "access", Tokens.now)
    }
  },
  "access token dropped": (draft) => {
    draft.copies = draft.copies.filter(({ role }) => role !== "access")
    draft.access = undefined
    draft.accessEnd = undefined
  },
  "access token unusable": (draft) => {
    const { kind, userId } = draft.before
    const { access } = draft.names
    inclusions["access token dropped"]?.(draft)
    const owner = { userId, issuedAt: Tokens.now }
    draft.beside.push({
      name: access,
      value: draft.prng.pick<Value>([
        null,
        "",
        "two words",
        5,
        "x".repeat(9000),
        Tokens.token(draft.prng, kind, "refresh", owner)
      ])
    })
  },
  "refresh token dropped": (draft) => {
    draft.copies = draft.copies.filter(({ role }) => role !== "refresh")
    draft.refresh = undefined
  },
  "refresh token under another name": (draft) => {
    inclusions["refresh token dropped"]?.(draft)
    draft.mayHoldMore = true
    const value = Tokens.letters(draft.prng, draft.prng.int(16, 200))
    draft.beside.push({
      name: draft.prng.pick(["renewal", "next", "rt", "token", "refresh"]),
      value: draft.prng.pick<Value>([value, [value], object(["value", value])])
    })
  },
  encoded: (draft) => {
    const name = draft.prng.pick(["gzip", "br", "deflate", "deflate-raw"] as const)
    draft.encoding = { name, isSaid: draft.prng.chance(0.6), isDone: true }
  },
  "decoded on the way": (draft) => {
    draft.encoding = { name: draft.prng.pick(["gzip", "br", "deflate"] as const), isSaid: true, isDone: false }
  },
  "in pieces": (draft) => {
    draft.pieces = draft.prng.int(2, 20)
  },
  "cut off": (draft) => {
    draft.share = draft.prng.next()
  }
}
