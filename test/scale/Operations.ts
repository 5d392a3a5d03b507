/** The storage's operations, for any user of a filled database. */
import { Duration } from "effect"
import type { AttemptFailure } from "../../src/TokenStorage.js"
import * as ChangeLog from "../../src/TokenStorage/ChangeLog.js"
import * as Fixture from "../support/StorageFixture.js"
import type { Operation } from "./Calls.js"
import { dueUsedAt, user } from "./Fill.js"

export interface Case {
  readonly operation: Operation
  /** How many rows the database answers, or its verdict, or whether it recorded; one row, unless this says otherwise. */
  readonly answer?: number | string | boolean
  /** Tables of few rows, which it may read as a whole. */
  readonly wholly?: ReadonlyArray<string>
  /** What has happened before, in the same transaction. */
  readonly after?: ReadonlyArray<Operation>
}

/** For the n-th of `count` users, an active one, who may take the account of the next one, or a new one. */
export const cases = (n: number, count: number): Record<string, Case> => {
  const { connection, refreshHash, transition, userUlid } = user(n)
  const other = user(n + 1)
  // So that a whole page is behind it, also of users to reconnect.
  const later = user(Math.floor(n / 2)).userUlid
  const nobody = user(count + n).userUlid
  const pair = Fixture.pair(`new ${n}`)
  const claim: Operation = (storage) => storage.claim(Fixture.claimOf(userUlid))
  const schedule = { aheadAt: 2_000_000_000, keepAt: 3_000_000_000, usedAt: dueUsedAt }
  const commit = { pair, seen: refreshHash, dead: [refreshHash], schedule }
  const committing =
    (request: Parameters<typeof Fixture.commitOf>[2]): Operation =>
    (storage) =>
      storage.commit(Fixture.commitOf(userUlid, connection, { ...commit, ...request }))
  const failing =
    (failure: AttemptFailure): Operation =>
    (storage) =>
      storage.fail({ userUlid, attemptId: "mine", failure })
  const connecting =
    (request: Partial<Parameters<Fixture.Storage["connect"]>[0]>): Operation =>
    (storage) =>
      storage.connect({ userUlid, connection, pair, schedule, ...request })
  const nameless = connecting({ connection: Fixture.oauth() })
  const named = Fixture.oauth(count + n)
  const granted = connecting({ granted: true })
  const finding: Operation = (storage) => storage.findByAccessToken(Fixture.accessHash(`new ${n}`))
  const update: Operation = (storage) => storage.update({ userUlid, connection, pair, schedule })
  const deliver: Operation = (storage) => storage.log.claim({ holder: "me", lease: Fixture.lease, limit: 1 })
  const due =
    (now: number): Operation =>
    (storage) =>
      storage.claimDue({
        circuit: { clientId: "platform", fingerprint: "one", interval: Duration.seconds(30) },
        limit: 10,
        now,
        usedSince: dueUsedAt,
        lease: Fixture.lease,
        cooldownWindow: Duration.seconds(30),
        maxAttempts: 3
      })
  const oldest = user(1).transition
  // Half of the transactions that filled the database, and all of them.
  const position = (epoch: string) => ChangeLog.formatPosition({ at: 0, epoch, id: "0" })
  return {
    find: { operation: (storage) => storage.find(userUlid) },
    "find nobody": { answer: 0, operation: (storage) => storage.find(nobody) },
    claim: { answer: "Claimed", operation: claim },
    "claim, busy": { answer: "Busy", operation: claim, after: [claim] },
    spend: {
      operation: (storage) => storage.spend({ userUlid, attemptId: "mine", next: "x", dead: [refreshHash] }),
      after: [claim]
    },
    commit: { answer: "Stored", operation: committing({}), after: [claim] },
    "commit, repeated": { answer: "AlreadyStored", operation: committing({}), after: [claim, committing({})] },
    "commit, late": { answer: "Kept", operation: committing({ attemptId: "late", seen: "x" }) },
    "commit that learns the account": {
      answer: "Stored",
      operation: committing({ connection: named, pair: Fixture.pair(`newer ${n}`) }),
      after: [nameless, claim]
    },
    "fail NotSpent": {
      answer: true,
      operation: failing(Fixture.notSpent("2 seconds")),
      after: [claim]
    },
    "fail Unknown": {
      answer: true,
      operation: failing(Fixture.unknown()),
      after: [claim]
    },
    "fail Terminal": {
      answer: true,
      operation: failing(Fixture.terminal([refreshHash])),
      after: [claim]
    },
    "fail Released": { answer: true, operation: failing(Fixture.released()), after: [claim] },
    "connect, new": { operation: connecting({ userUlid: nobody, connection: named }) },
    "connect, same account": { operation: connecting({}) },
    "connect, other account": { operation: connecting({ connection: named }) },
    "connect, refused": { answer: 0, operation: connecting({ connection: other.connection }) },
    "connect with replace": { operation: connecting({ connection: other.connection, replace: true }) },
    update: { operation: update },
    disconnect: { operation: (storage) => storage.disconnect(userUlid) },
    endSessions: { operation: (storage) => storage.endSessions(userUlid) },
    "findByAccessToken, nobody": { answer: 0, operation: finding },
    findByAccessToken: { operation: finding, after: [granted] },
    "findByAccessToken, of two users": {
      answer: 2,
      operation: finding,
      after: [granted, connecting({ userUlid: other.userUlid, connection: other.connection, granted: true })]
    },
    "claimDue, ten": { answer: "Claimed", operation: due(dueUsedAt) },
    "claimDue, nothing due": { answer: 0, operation: due(0) },
    used: { operation: (storage) => storage.used([{ userUlid, at: dueUsedAt + 1_000_000 }], 300_000) },
    handedOut: { operation: (storage) => storage.handedOut([{ userUlid, at: 1 }]) },
    missingKeys: {
      answer: 0,
      operation: (storage) => storage.missingKeys,
      wholly: ["connect_flow", "sealed_answer"]
    },
    "list, first page": { answer: 50, operation: (storage) => storage.list({ limit: 50 }) },
    "list, later page": { answer: 50, operation: (storage) => storage.list({ limit: 50, after: later }) },
    "list, active": {
      answer: 50,
      operation: (storage) => storage.list({ limit: 50, status: "Active", after: later })
    },
    "list, to reconnect": {
      answer: 50,
      operation: (storage) => storage.list({ limit: 50, status: "ReauthorizationRequired" })
    },
    "list, to reconnect, later page": {
      answer: 50,
      operation: (storage) => storage.list({ limit: 50, status: "ReauthorizationRequired", after: later })
    },
    "list, to reconnect, the latest first": { answer: 50, operation: (storage) => storage.reconnecting({ limit: 50 }) },
    "list, of a user at Cal.com": { operation: (storage) => storage.list({ limit: 50, calUserId: 4_711 }) },
    "log, its end": { operation: (storage) => storage.log.end },
    "log, a page": { answer: 100, operation: (storage) => storage.log.read({ position: position("250") }, 100) },
    "log, nothing new": { operation: (storage) => storage.log.read({ position: position("600") }, 100) },
    "log, claim a delivery": { operation: deliver },
    "log, settle a delivery": { operation: (storage) => storage.log.settle(transition) },
    "log, postpone a delivery": {
      operation: (storage) => storage.log.postpone({ id: oldest, holder: "me", delay: Duration.seconds(5) }),
      after: [deliver]
    },
    ping: { operation: (storage) => storage.ping }
  }
}
