/**
 * What happens to a pair once Cal.com granted it: it is stored before anybody sees it. Only when the storage cannot take
 * it, it is held in memory, served from there, and offered again until it lands.
 */
import { Duration, Effect, Option } from "effect"
import type { Grant } from "../CalClient.js"
import type { TokenChange } from "../Revalidation.js"
import type { Connection, UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import type { StorageUnavailable } from "../TokenError.js"
import {
  type CommitRequest,
  CommitResult,
  type StoredConnection,
  type StoredRow,
  type TokenStorage
} from "../TokenStorage.js"
import * as Lookups from "../TokenStorage/Lookups.js"
import type { Known } from "./Known.js"
import type { Memory } from "./Memory.js"
import * as Schedule from "./Schedule.js"
import type { Notices } from "./Notices.js"
import type { Owned } from "../Fibers/Owned.js"

/** The row to serve; `None` when there is none of this account any more. */
type Served = Option.Option<Known>

export interface CommitInput {
  /** The row as it was when the call was made. */
  readonly row: StoredRow
  readonly grant: Grant
  readonly request: Omit<CommitRequest, "connection" | "pair" | "lookups" | "schedule">
  readonly reissued: boolean
  /** Somebody asked for the user's token. */
  readonly isAsked: boolean
}

export interface Commits {
  /**
   * The row to serve: with our pair, or with a newer one beside which ours is kept. `None` when the user is gone or has
   * another Cal.com account by now.
   */
  readonly commit: (input: CommitInput) => Effect.Effect<Served>
  /** Whether a pair of the user is on its way into the storage. */
  readonly isOffering: (userUlid: UserUlid) => boolean
  /** Offers a user's held pair again; `None` when there is none, or when it turned out to be worth nothing. */
  readonly land: (userUlid: UserUlid) => Effect.Effect<Served, StorageUnavailable>
}

/** The pause after the first offer. It doubles from one to the next. */
const firstPause = Duration.millis(100)

/**
 * The longest pause between two offers. Others wait `latePairWait` for one before they give a user up: several fit into
 * that, for the first of them may still fail, and each takes its time.
 */
const longestPauseOf = (config: Pick<Options, "latePairWait">) =>
  Duration.max(firstPause, Duration.times(config.latePairWait, 0.25))

/** What Cal.com's answer adds to a connection; what is known stays. */
const enriched = (connection: Connection, grant: Grant): Connection =>
  connection._tag === "ManagedUser"
    ? connection
    : {
        ...connection,
        ...(grant.scope === undefined ? {} : { scope: grant.scope }),
        ...(connection.calUserId !== undefined || grant.calUserId === undefined ? {} : { calUserId: grant.calUserId })
      }

export const make = (deps: {
  readonly config: Options
  readonly storage: typeof TokenStorage.Service
  readonly memory: Memory
  readonly notices: Notices
  readonly owned: Owned
  /** Cal.com's time in milliseconds. */
  readonly now: Effect.Effect<number>
  readonly publish: (change: Omit<TokenChange, "at">) => Effect.Effect<void>
}): Commits => {
  const { memory, owned, storage } = deps
  const longestPause = longestPauseOf(deps.config)

  interface Offer {
    readonly held: StoredConnection
    readonly request: CommitRequest
    readonly kind: TokenChange["kind"]
  }
  const offers = new Map<UserUlid, Offer>()
  /** A stored pair is told of once, also when it is a repeated offer that learns of it. */
  const told = new WeakSet<Offer>()

  const stored = (offer: Offer, row: StoredConnection): Effect.Effect<Served> =>
    Effect.gen(function* () {
      yield* close(offer)
      yield* memory.put(row)
      if (!told.has(offer)) {
        told.add(offer)
        yield* deps.publish({ userUlid: row.userUlid, kind: offer.kind, version: row.version })
      }
      return Option.some(row)
    })

  const close = (offer: Offer) =>
    Effect.zipRight(
      memory.release(offer.held),
      Effect.sync(() => {
        if (offers.get(offer.request.userUlid) === offer) offers.delete(offer.request.userUlid)
      })
    )

  const offerOnce = (offer: Offer): Effect.Effect<Served, StorageUnavailable> =>
    Effect.flatMap(storage.commit(offer.request), (result) =>
      CommitResult.$match(result, {
        Stored: ({ row }) => stored(offer, row),
        AlreadyStored: ({ row }) => stored(offer, row),
        KeptAsFallback: ({ row }) => close(offer).pipe(Effect.zipRight(memory.put(row)), Effect.as(Option.some(row))),
        Discarded: () => Effect.as(close(offer), Option.none())
      })
    ).pipe(
      // What was written is not in doubt: what stands there now has been sealed by somebody else.
      Effect.catchTag("TokenUnreadable", () => Effect.as(close(offer), Option.none()))
    )

  /** Until it lands, or the shutdown stopped waiting. */
  const keepOffering = (offer: Offer) =>
    Effect.gen(function* () {
      let pause = firstPause
      while (!owned.isAbandoned()) {
        const result = yield* Effect.either(offerOnce(offer))
        if (result._tag === "Right") return yield* Effect.logInfo("A pair that was held in memory is settled")
        yield* Effect.sleep(pause)
        pause = Duration.min(longestPause, Duration.times(pause, 2))
      }
    }).pipe(Effect.annotateLogs({ userUlid: offer.request.userUlid }))

  /** What is served until the pair is stored. */
  const meanwhile = (offer: Offer): Effect.Effect<Served> =>
    Effect.gen(function* () {
      const { userUlid } = offer.request
      // Disconnected since the claim: whether the pair is kept is for the storage to say, and until then it serves nobody.
      if (memory.isRemoved(userUlid)) return Option.none()
      // Somebody stored since the claim, perhaps this very pair: what this process has read of that is newer.
      const newer = Option.filter(memory.get(userUlid), ({ row }) => row.version > offer.held.version)
      const { row } = Option.isSome(newer) ? newer.value : yield* memory.hold(offer.held)
      yield* deps.notices.learned(userUlid)
      return Option.some(row)
    })

  const hold = (offer: Offer, reason: string) =>
    Effect.gen(function* () {
      const { userUlid } = offer.request
      yield* Effect.logWarning("A new pair cannot be stored yet; it is held in memory and offered again").pipe(
        Effect.annotateLogs({ userUlid, reason })
      )
      const committed = yield* meanwhile(offer)
      owned.runToEnd(keepOffering(offer), userUlid)
      return committed
    })

  return {
    commit: ({ grant, isAsked, reissued, request, row }) =>
      Effect.flatMap(deps.now, (now) => {
        const connection = enriched(row.connection, grant)
        const { pair } = grant
        const after = reissued ? Lookups.granted(pair) : Lookups.refreshed(row, pair, now)
        const schedule = {
          ...Schedule.of(deps.config, row.userUlid, connection, pair, now),
          ...(isAsked ? { usedAt: now } : {})
        }
        const offer: Offer = {
          held: { ...row, connection, pair, status: { _tag: "Active" } },
          request: { ...request, connection, pair, reissued, lookups: { before: row.lookups, after }, schedule },
          kind: reissued ? "reissued" : "refreshed"
        }
        // From now on: whoever claims while this statement is under way would spend what is spent.
        offers.set(row.userUlid, offer)
        return Effect.catchAll(offerOnce(offer), (error) => hold(offer, error.message))
      }),
    isOffering: (userUlid) => offers.has(userUlid),
    land: (userUlid) =>
      Effect.suspend(() => {
        const offer = offers.get(userUlid)
        return offer === undefined ? Effect.succeedNone : offerOnce(offer)
      })
  }
}
