/**
 * Between the domain and what is written: a pair becomes one envelope, and a row's columns become a connection again.
 */
import { Effect, Option, Predicate, Redacted, Schema } from "effect"
import { Connection, hash, type TokenPair, type UserUlid } from "../../Token.js"
import { ReauthorizationCause, TokenUnreadable } from "../../TokenError.js"
import type {
  ConnectionSummary,
  NewSealedAnswer,
  SealedAnswer,
  Status,
  StoredConnection,
  StoredRow
} from "../../TokenStorage.js"
import type { Binding, KeyRing } from "../../KeyRing.js"
import * as Lookups from "../Lookups.js"

/** A pair as it is written, in the order of the functions' parameters: sealed, with what is compared or listed beside it. */
export type Sealed = readonly [
  envelope: string,
  refreshHash: string,
  accessTokenExpiresAt: number,
  refreshTokenExpiresAt: number | null
]

/** Of which Cal.com account a row is. */
export type Account = Pick<Columns, "kind" | "client_id" | "cal_user_id" | "scope">

/** Whose and of which account a pair is, as its row says. */
type Owner = Pick<Columns, "user_ulid" | "kind" | "client_id" | "cal_user_id">

/**
 * What the database answers of a row: counts and instants as numbers, any numbers. Nothing but its types is sure, for
 * others may write to the database too.
 */
export interface Columns {
  readonly user_ulid: UserUlid
  readonly kind: Connection["_tag"]
  readonly client_id: string
  readonly cal_user_id: number | null
  readonly scope: string | null
  /** Null when whoever asked has it. */
  readonly pair: string | null
  /** Each with its `pair`. */
  readonly fallbacks: unknown
  readonly version: number
  readonly sessions_after: number
  readonly status: "active" | "reauthorization_required"
  readonly cause: string | null
  readonly since: number | null
  readonly updated_at: number
  readonly access_token_expires_at: number
  readonly refresh_token_expires_at: number | null
  readonly lookups: string
  readonly lookups_code: string | null
  readonly handed_out_at: number | null
  readonly handed_out_code: string | null
  readonly imported_at: number | null
}

/**
 * What is sealed of a pair. `calUserId` is the account of an OAuth2 pair, as far as it was known: what the row says beside
 * it serves look-ups and lists, and is not believed.
 */
interface Text extends TokenPair {
  readonly calUserId?: number
}

/** Written by hand, like its counterpart: each refresh and each cold read needs it, and a schema takes several times as long. */
const encode = ({
  accessToken,
  accessTokenExpiresAt,
  calUserId,
  issuedAt,
  refreshToken,
  refreshTokenExpiresAt
}: Text) =>
  JSON.stringify({
    accessToken: Redacted.value(accessToken),
    refreshToken: Redacted.value(refreshToken),
    accessTokenExpiresAt,
    issuedAt,
    refreshTokenExpiresAt,
    calUserId
  })

/** `None` for whatever is no such text. */
const decode = (text: string): Option.Option<Text> =>
  Option.flatMap(Option.liftThrowable(JSON.parse)(text), (json: unknown) => {
    if (!Predicate.isRecord(json)) return Option.none()
    const { accessToken, accessTokenExpiresAt, calUserId, issuedAt, refreshToken, refreshTokenExpiresAt } = json
    if (!Predicate.isString(accessToken) || !Predicate.isString(refreshToken)) return Option.none()
    if (!Predicate.isNumber(accessTokenExpiresAt)) return Option.none()
    if (!isOptional(issuedAt) || !isOptional(refreshTokenExpiresAt)) return Option.none()
    if (!isOptional(calUserId) || (calUserId !== undefined && !Number.isSafeInteger(calUserId))) return Option.none()
    return Option.some({
      accessToken: Redacted.make(accessToken),
      refreshToken: Redacted.make(refreshToken),
      accessTokenExpiresAt,
      ...(issuedAt === undefined ? {} : { issuedAt }),
      ...(refreshTokenExpiresAt === undefined ? {} : { refreshTokenExpiresAt }),
      ...(calUserId === undefined ? {} : { calUserId })
    })
  })

const isOptional = (value: unknown): value is number | undefined => value === undefined || Predicate.isNumber(value)

const isCause = Schema.is(ReauthorizationCause)

/** Whose pair it is: for managed users the account too, which never changes under a pair. */
const bindingOf = ({ cal_user_id, client_id, kind, user_ulid: userUlid }: Owner): Binding => ({
  userUlid,
  purpose: "token-pair",
  subject: [kind, client_id, ...(kind === "ManagedUser" ? [String(cal_user_id)] : [])]
})

/** Seals a pair of a user's Cal.com account. */
export const seal = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  { _tag: kind, calUserId, clientId: client_id }: Connection,
  pair: TokenPair
): Effect.Effect<Sealed> => {
  const binding = bindingOf({ user_ulid: userUlid, kind, client_id, cal_user_id: calUserId ?? null })
  const text = encode(kind === "ManagedUser" || calUserId === undefined ? pair : { ...pair, calUserId })
  return Effect.map(keys.seal(binding, Redacted.make(text)), (envelope) => [
    envelope,
    hash(pair.refreshToken),
    Math.floor(pair.accessTokenExpiresAt),
    pair.refreshTokenExpiresAt === undefined ? null : Math.floor(pair.refreshTokenExpiresAt)
  ])
}

/** Opens a row. A fallback that cannot be opened, or is another account's, is left out: it was only ever a second chance. */
export const open = (keys: KeyRing["Type"], row: Columns): Effect.Effect<StoredRow, TokenUnreadable> =>
  Effect.gen(function* () {
    const { calUserId, pair } = yield* openPair(keys, row, row.pair)
    const kept: ReadonlyArray<unknown> = Array.isArray(row.fallbacks) ? row.fallbacks : [row.fallbacks]
    const fallbacks = yield* Effect.forEach(kept, (fallback) =>
      openPair(keys, row, pairOf(fallback)).pipe(
        Effect.filterOrFail(
          (opened) => row.kind === "ManagedUser" || (calUserId !== undefined && opened.calUserId === calUserId),
          () => new TokenUnreadable({ userUlid: row.user_ulid, reason: "of another Cal.com account than the pair" })
        ),
        Effect.map((opened) => Option.some(opened.pair)),
        Effect.catchAll(({ reason }) =>
          Effect.as(
            Effect.logWarning("A fallback token pair cannot be decrypted and is left out").pipe(
              Effect.annotateLogs({ userUlid: row.user_ulid, reason })
            ),
            Option.none<TokenPair>()
          )
        )
      )
    )
    return {
      ...common(keys, row, openedConnection(row, calUserId)),
      pair,
      fallbacks: fallbacks.flatMap(Option.toArray),
      lookups: openLookups(keys, row, pair)
    }
  })

const pairOf = (fallback: unknown): string | null =>
  Predicate.hasProperty(fallback, "pair") && typeof fallback.pair === "string" ? fallback.pair : null

/** The row around a pair that is at hand; another one is opened. */
export const around = (
  keys: KeyRing["Type"],
  row: Columns,
  own: TokenPair
): Effect.Effect<StoredConnection, TokenUnreadable> =>
  row.pair === null
    ? Effect.succeed({ ...common(keys, row), pair: own })
    : Effect.map(openPair(keys, row, row.pair), ({ calUserId, pair }) => ({
        ...common(keys, row, openedConnection(row, calUserId)),
        pair
      }))

/**
 * What finds a user by an access token, as the functions take it: what is said, the code that it is us who say so, and the
 * names to look it up by. The code is of the user, and holds as long as the row's own token is the first.
 */
export const lookups = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  said: Lookups.Lookups
): readonly [text: string, code: string | null, names: string] => {
  const text = Lookups.encode(said)
  const names = said.map(({ key }) => keys.lookups(key)[0])
  return [text, said.length === 0 ? null : keys.mac("look-up", saidOf(userUlid, text)), JSON.stringify(names)]
}

/** The same of a row: nothing, unless it was written by somebody with a key, for this user and this pair. */
const openLookups = (keys: KeyRing["Type"], row: Columns, pair: TokenPair): Lookups.Lookups =>
  row.lookups_code !== null && keys.verify("look-up", saidOf(row.user_ulid, row.lookups), row.lookups_code)
    ? Lookups.decode(row.lookups, pair)
    : []

const saidOf = (userUlid: UserUlid, text: string) => JSON.stringify(["look-ups", userUlid, text])

/** When a token was handed out, as the functions take it. The code names its key: with the pair's it has nothing to do. */
export const handedOut = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  at: number
): readonly [at: number, code: string] => [at, `${keys.ids[0]}.${keys.mac("look-up", handedOutText(userUlid, at))}`]

/** The same of a row: never, unless somebody with a key wrote so. */
export const handedOutOf = (
  keys: KeyRing["Type"],
  row: Pick<Columns, "user_ulid" | "handed_out_at" | "handed_out_code">
): { readonly handedOutAt?: number } => {
  const { handed_out_at: at, handed_out_code: code } = row
  if (at === null || code === null) return {}
  const [, mac = ""] = code.split(".", 2)
  return keys.verify("look-up", handedOutText(row.user_ulid, at), mac) ? { handedOutAt: at } : {}
}

const handedOutText = (userUlid: UserUlid, at: number) => JSON.stringify(["handed out", userUlid, at])

/** What the database answers of a sealed answer. */
export interface SealedColumns {
  readonly client_id: string
  readonly spent_hash: string
  readonly at: number
  readonly envelope: string
}

const Answer = Schema.parseJson(
  Schema.Struct({
    operation: Schema.Literal("refresh", "reissue"),
    connection: Connection,
    answer: Schema.Redacted(Schema.Uint8ArrayFromBase64),
    issuedAt: Schema.Number,
    isWhole: Schema.Boolean
  })
)
const encodeAnswer = Schema.encodeSync(Answer)
const decodeAnswer = Schema.decodeOption(Answer)

const answerBinding = (userUlid: UserUlid, clientId: string, spentHash: string): Binding => ({
  userUlid,
  purpose: "sealed-answer",
  subject: [clientId, spentHash]
})

/** Seals an answer that nobody could read. Of which account it is stands in the sealed text, and is believed from there. */
export const sealAnswer = (keys: KeyRing["Type"], userUlid: UserUlid, answer: NewSealedAnswer): Effect.Effect<string> =>
  keys.seal(answerBinding(userUlid, answer.connection.clientId, answer.spentHash), Redacted.make(encodeAnswer(answer)))

/** Opens it again; one that the keys do not open is left for a process that has the key. */
export const openAnswer = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  { at, client_id, envelope, spent_hash: spentHash }: SealedColumns
): Effect.Effect<Option.Option<SealedAnswer>> =>
  keys.open(answerBinding(userUlid, client_id, spentHash), envelope).pipe(
    Effect.map((text) =>
      Option.map(decodeAnswer(Redacted.value(text)), (answer): SealedAnswer => ({ ...answer, spentHash, at }))
    ),
    Effect.catchAll(() => Effect.succeedNone)
  )

/** What of a row names its key, or is under the key of its pair. */
export type Keyed = Owner &
  Pick<Columns, "pair" | "fallbacks" | "lookups" | "lookups_code" | "handed_out_at" | "handed_out_code">

/**
 * The same under the first key, with the names to look the user up by, unless nothing is said of them. What the keys do not
 * open stays as it is.
 */
export const anew = (
  keys: KeyRing["Type"],
  row: Keyed
): Effect.Effect<{
  readonly next: Pick<Keyed, "pair" | "fallbacks" | "lookups_code" | "handed_out_code"> & {
    readonly names: ReadonlyArray<string> | null
  }
  readonly isChanged: boolean
  /** Some pair of it does not open. */
  readonly isUnreadable: boolean
}> =>
  Effect.gen(function* () {
    let isChanged = false
    let isUnreadable = false
    const resealed = (envelope: string) =>
      Effect.map(reseal(keys, bindingOf(row), envelope), (next) => {
        const written = Option.getOrElse(next, () => envelope)
        isChanged ||= written !== envelope
        isUnreadable ||= Option.isNone(next)
        return written
      })
    const pair = row.pair === null ? null : yield* resealed(row.pair)
    const fallbacks: unknown = Array.isArray(row.fallbacks)
      ? yield* Effect.forEach(row.fallbacks, (fallback: unknown) => {
          const envelope = pairOf(fallback)
          return envelope === null
            ? Effect.succeed(fallback)
            : Effect.map(resealed(envelope), (pair): unknown => ({ ...Object(fallback), pair }))
        })
      : row.fallbacks
    const said = saidOf(row.user_ulid, row.lookups)
    const isSaid = row.lookups_code !== null && keys.verify("look-up", said, row.lookups_code)
    const { handedOutAt } = handedOutOf(keys, row)
    const [, code] = handedOutAt === undefined ? [] : handedOut(keys, row.user_ulid, handedOutAt)
    isChanged ||= code !== undefined && code !== row.handed_out_code
    return {
      next: {
        pair,
        fallbacks,
        lookups_code: isSaid ? keys.mac("look-up", said) : row.lookups_code,
        names: isSaid ? Lookups.keysOf(row.lookups).map((key) => keys.lookups(key)[0]) : null,
        handed_out_code: code ?? row.handed_out_code
      },
      isChanged,
      isUnreadable
    }
  })

/** An answer's envelope under the first key, if the keys open it. */
export const answerAnew = (
  keys: KeyRing["Type"],
  userUlid: UserUlid,
  { client_id, envelope, spent_hash }: Pick<SealedColumns, "client_id" | "envelope" | "spent_hash">
): Effect.Effect<Option.Option<string>> => reseal(keys, answerBinding(userUlid, client_id, spent_hash), envelope)

const reseal = (keys: KeyRing["Type"], binding: Binding, envelope: string): Effect.Effect<Option.Option<string>> =>
  envelope.startsWith(`v1.${keys.ids[0]}.`)
    ? Effect.succeedSome(envelope)
    : Effect.option(Effect.flatMap(keys.open(binding, envelope), (text) => keys.seal(binding, text)))

/** What of a row can be shown without opening it: as it says itself. */
export const summary = (row: Columns): ConnectionSummary => ({
  ...standing(
    row,
    connectionOf({ ...row, cal_user_id: row.cal_user_id && clamp(row.cal_user_id, Number.MAX_SAFE_INTEGER) })
  ),
  accessTokenExpiresAt: instant(row.access_token_expires_at),
  refreshTokenExpiresAt: row.refresh_token_expires_at === null ? undefined : instant(row.refresh_token_expires_at)
})

/** A pair, and the account that was sealed with it. A row that names another one has been tampered with. */
const openPair = (
  keys: KeyRing["Type"],
  row: Owner,
  envelope: string | null
): Effect.Effect<{ readonly pair: TokenPair; readonly calUserId: number | undefined }, TokenUnreadable> =>
  Effect.gen(function* () {
    const unreadable = (reason: string) => new TokenUnreadable({ userUlid: row.user_ulid, reason })
    const text = yield* keys.open(bindingOf(row), envelope ?? "")
    // A parse error would quote the tokens.
    const sealed = yield* Effect.mapError(decode(Redacted.value(text)), () => unreadable("not a token pair"))
    const { calUserId, ...pair } = sealed
    const isMoved = calUserId !== undefined && row.cal_user_id !== null && calUserId !== row.cal_user_id
    if (isMoved) return yield* unreadable("its row names another Cal.com account than was sealed with it")
    return { pair, calUserId }
  })

/**
 * The account as it was sealed. A row may be nameless although its pair has a name, while that is another user's; a row
 * that has a name although its pair has none is not believed.
 */
const openedConnection = (row: Account, calUserId: number | undefined): Connection =>
  connectionOf(row.kind === "OAuth2" && row.cal_user_id !== null ? { ...row, cal_user_id: calUserId ?? null } : row)

const common = (keys: KeyRing["Type"], row: Columns, connection = connectionOf(row)) => ({
  ...standing(row, connection),
  sessionsAfter: row.sessions_after,
  ...handedOutOf(keys, row)
})

const standing = (row: Columns, connection: Connection) => ({
  userUlid: row.user_ulid,
  connection,
  status: statusOf(row),
  version: row.version,
  updatedAt: instant(row.updated_at)
})

export const connectionOf = (row: Account): Connection =>
  row.kind === "ManagedUser" && row.cal_user_id !== null
    ? { _tag: "ManagedUser", clientId: row.client_id, calUserId: row.cal_user_id }
    : {
        _tag: "OAuth2",
        clientId: row.client_id,
        ...(row.cal_user_id === null ? {} : { calUserId: row.cal_user_id }),
        ...(row.scope === null ? {} : { scope: row.scope })
      }

const statusOf = (row: Columns): Status =>
  row.status === "active"
    ? { _tag: "Active" }
    : {
        _tag: "ReauthorizationRequired",
        cause: isCause(row.cause) ? row.cause : "revoked",
        since: instant(row.since ?? row.updated_at),
        ...(row.imported_at === null ? {} : { importedAt: instant(row.imported_at) })
      }

/** What no calendar shows is the last instant that one does: of a row that somebody made up, lists and answers go on. */
export const instant = (at: number): number => clamp(at, 8.64e15)

const clamp = (value: number, most: number): number => Math.max(-most, Math.min(most, value))
