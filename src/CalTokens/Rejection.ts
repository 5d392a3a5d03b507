/** Cal.com refused an access token: whether another one, a refresh or nothing at all can help whoever sent it. */
import { Data, Duration, Effect, Option, type Redacted } from "effect"
import type { CalClient } from "../CalClient.js"
import { tokenExpiredStatus } from "../CalHttp/Refusal.js"
import { hash, isYoung, type UserUlid } from "../Token.js"
import type { Options } from "../TokenConfig.js"
import type { EnsureError } from "../TokenError.js"
import { reauthorizationRequired } from "./Ending.js"
import type { Known } from "./Known.js"
import type { Memory } from "./Memory.js"
import type { Reader } from "./Reader.js"
import * as Serving from "./Serving.js"
import { valid, type ValidToken } from "./ValidToken.js"

export interface Refusal {
  readonly accessToken: Redacted.Redacted
  /** The HTTP status: 498, 401 or 403. */
  readonly status: number
  /**
   * The request was sent twice already. It is worth a third time only with the same token, where that is so young that a
   * replica may not know it yet; so nothing is refreshed, and no other token advised.
   */
  readonly isSecond?: boolean | undefined
}

export type Advice = Data.TaggedEnum<{
  /** Send the request once more with this token, after the delay. */
  Retry: { readonly token: ValidToken; readonly delay: Duration.Duration }
  /** No refresh can cure it: the last one did not, or there were too many. Cal.com's answer is the caller's. */
  GiveUp: {}
}>
export const Advice = Data.taggedEnum<Advice>()

const isToken = ({ pair }: Known, { accessToken }: Refusal) => hash(pair.accessToken) === hash(accessToken)

const retry = (token: ValidToken, delay = Duration.zero) => Advice.Retry({ token, delay })

export const make = ({
  client,
  config,
  memory,
  reader,
  serving
}: {
  readonly config: Pick<Options, "youngToken" | "youngTokenDelay">
  readonly client: typeof CalClient.Service
  readonly memory: Memory
  readonly reader: Reader
  readonly serving: Serving.Serving
}): ((userUlid: UserUlid, refusal: Refusal) => Effect.Effect<Advice, EnsureError>) =>
  Effect.fn("CalTokens.reportRejected")(function* (userUlid, refusal) {
    const known = Option.getOrUndefined(memory.get(userUlid))
    if (known !== undefined && refusal.status === tokenExpiredStatus && isToken(known.row, refusal)) {
      // At once: nobody shall be given it while the storage is asked.
      yield* memory.markRefused(userUlid, known.row.version)
    }
    // With the storage down, what is remembered may still be newer than what was refused.
    const entry = yield* Effect.catchTag(reader.reload(userUlid), "StorageUnavailable", (error) =>
      Effect.orElseFail(memory.get(userUlid), () => error)
    )
    const now = yield* client.now
    const isCurrent = isToken(entry.row, refusal)
    const isExpired = refusal.status === tokenExpiredStatus
    if (isCurrent && isExpired) yield* memory.markRefused(userUlid, entry.row.version)
    const isDead = isExpired || Serving.isDead(entry, now)
    if (isCurrent && !isDead && isYoung(entry.row.pair, now, config.youngToken)) {
      return retry(valid(entry.row, false), config.youngTokenDelay)
    }
    if (refusal.isSecond === true) return Advice.GiveUp()
    if (!isCurrent) return retry(yield* serving.serve(entry))
    if (isDead) return retry(yield* serving.serve({ ...entry, refused: true }))
    const terminal = reauthorizationRequired(entry.row)
    if (terminal !== undefined) return retry(yield* serving.giveUp(entry, terminal))
    return yield* serving.joinForNewer(entry, { rejected: true }).pipe(
      Effect.map((row) => retry(valid(row, true))),
      // A refresh that failed has not shown that none can help.
      Effect.catchIf(
        (error) => error._tag === "RefreshCoolingDown" && error.lastError === undefined,
        () => Effect.succeed(Advice.GiveUp())
      )
    )
  })
