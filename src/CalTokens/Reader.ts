/** A user's entry: from memory while it is recent, else from the storage, read once for all who ask at the same time. */
import { Clock, Effect, Option } from "effect"
import { isExpired, type UserUlid } from "../Token.js"
import { type StorageUnavailable, TokensNotFound, type TokenUnreadable } from "../TokenError.js"
import type { TokenStorage } from "../TokenStorage.js"
import * as SingleFlight from "../Fibers/SingleFlight.js"
import type { Known } from "./Known.js"
import type { Entry, Memory } from "./Memory.js"
import type { Deadline } from "../Fibers/Deadline.js"
import type { Owned } from "../Fibers/Owned.js"

type ReadError = StorageUnavailable | TokenUnreadable | TokensNotFound

export interface Reader {
  /** The entry, read again when it is not recent. If that fails, an unexpired one serves on. */
  readonly load: (userUlid: UserUlid) => Effect.Effect<Entry, ReadError>
  /** The entry as the storage has it now (or as it is held in memory, if that is newer). */
  readonly reload: (userUlid: UserUlid) => Effect.Effect<Entry, ReadError>
  /** The same by a read that begins now: not by one that is under way, which may have seen what is over. */
  readonly anew: (userUlid: UserUlid) => Effect.Effect<Entry, ReadError>
  /** The row as the storage has, or had within `memoryMaxAge`. If it cannot be asked, nothing serves on. */
  readonly confirmed: (userUlid: UserUlid) => Effect.Effect<Known, ReadError>
  /** The same by a read that begins now. */
  readonly confirmedAnew: (userUlid: UserUlid) => Effect.Effect<Known, ReadError>
  /** Waits for a read that is under way, so that what it finds is not newer than what comes next. */
  readonly settle: (userUlid: UserUlid) => Effect.Effect<void>
}

export const make = (deps: {
  readonly memory: Memory
  readonly storage: typeof TokenStorage.Service
  readonly owned: Owned
  readonly deadline: Deadline
  /** Cal.com's time in milliseconds. */
  readonly now: Effect.Effect<number>
}): Reader => {
  const { memory, storage } = deps
  /** What was found, and what serves after it. */
  const reads = SingleFlight.make<{ readonly row: Known; readonly entry: Entry }, ReadError>(deps)

  const read = (userUlid: UserUlid) =>
    Effect.gen(function* () {
      const askedAt = yield* Clock.currentTimeMillis
      const found = yield* storage.find(userUlid)
      if (Option.isSome(found)) return { row: found.value, entry: yield* memory.put(found.value, askedAt) }
      yield* memory.remove(userUlid)
      return yield* new TokensNotFound({ userUlid })
    })

  const share = (userUlid: UserUlid) => reads.share(userUlid, read(userUlid))

  /** That nobody was there when somebody else's read began is no answer to whoever came later: they may have connected since. */
  const readShared = (userUlid: UserUlid) =>
    Effect.suspend(() =>
      reads.isRunning(userUlid)
        ? Effect.catchTag(share(userUlid), "TokensNotFound", () => share(userUlid))
        : share(userUlid)
    )

  const reload = (userUlid: UserUlid) =>
    Effect.suspend(() =>
      Option.match(
        Option.filter(memory.get(userUlid), (entry) => entry.pending),
        {
          onSome: Effect.succeed,
          onNone: () => Effect.map(readShared(userUlid), ({ entry }) => entry)
        }
      )
    )

  /**
   * What is known will do while it is valid; asking again on each call would make every caller wait for a dead database.
   * A row that cannot be read is the work of a process that has another key: this one gets it with its restart.
   */
  const serveOn = (entry: Entry) => (error: StorageUnavailable | TokenUnreadable) =>
    Effect.flatMap(deps.now, (now) =>
      isExpired(entry.row.pair, now) || entry.refused
        ? Effect.fail(error)
        : Effect.as(memory.touch(entry.row.userUlid), entry)
    )

  return {
    load: (userUlid) =>
      Option.match(memory.get(userUlid), {
        onNone: () => reload(userUlid),
        onSome: (entry) =>
          Effect.flatMap(memory.isRecent(entry), (isRecent) =>
            isRecent
              ? Effect.succeed(entry)
              : Effect.catchTags(reload(userUlid), {
                  StorageUnavailable: serveOn(entry),
                  TokenUnreadable: serveOn(entry)
                })
          )
      }),
    reload,
    anew: (userUlid) => Effect.zipRight(reads.idle(userUlid), reload(userUlid)),
    confirmed: (userUlid) =>
      Effect.flatMap(
        memory.confirmed(userUlid),
        Option.match({
          onNone: () => Effect.map(readShared(userUlid), ({ row }) => row),
          onSome: Effect.succeed
        })
      ),
    confirmedAnew: (userUlid) =>
      Effect.zipRight(
        reads.idle(userUlid),
        Effect.map(readShared(userUlid), ({ row }) => row)
      ),
    settle: reads.idle
  }
}
