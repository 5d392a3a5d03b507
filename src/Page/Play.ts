/** What can be done to the demo's users, and what is said of what the service makes of it. Nothing here knows the page. */
import type { Refreshed, ServiceError, UserHistory } from "./Answers.js"
import * as Format from "./Format.js"

export interface DemoUser {
  readonly userUlid: string
  readonly name: string
  readonly kind: "managed" | "oauth2"
  readonly calUserId: number | null
}

export type Mishap = "expire" | "revoke" | "down" | "lose" | "change" | "garble"

/** What became of requests that were made at the same moment. */
export interface Requests {
  readonly answered: number
  readonly refreshes: number
  readonly took: number
  readonly failure?: { readonly code: string; readonly error: string; readonly retryAfter?: number }
}

/** What a play can do, and where it says what it sees. */
export interface Stage {
  /** Of the simulator. */
  readonly control: (path: string, body?: object) => Promise<unknown>
  readonly requests: (user: DemoUser, times: number) => Promise<Requests>
  readonly refresh: (user: DemoUser) => Promise<Refreshed | ServiceError>
  /** Has Cal.com issue a managed user's pair anew. */
  readonly reissue: Stage["refresh"]
  readonly history: (user: DemoUser) => Promise<UserHistory>
  readonly now: () => number
  readonly say: (text: string) => void
  /** Until then, telling why. */
  readonly wait: (until: number, why: string) => Promise<void>
}

/** `kept`: nobody noticed. `reconnect`: somebody has to. `odd`: it went otherwise than it should. */
export type End = "kept" | "reconnect" | "odd"

export interface Scene {
  readonly title: string
  /** What will happen, to a managed user, to one who consented, or to everybody. */
  readonly what: (whom: DemoUser["kind"] | "everybody") => string
  readonly promise: string
  readonly isFor: (whom: DemoUser["kind"] | "everybody") => boolean
}

const crowd = 20
const outage = 30_000
/** A mishap that meets no request in this time is forgotten. */
const soon = "30 seconds"

const anybody = () => true

export const scenes: Readonly<Record<Mishap, Scene>> = {
  expire: {
    title: "Expire the token",
    what: () => `Cal.com ends the access token before its time, and ${crowd} requests use it at once.`,
    promise: "One refresh, whoever asks and however many: everybody gets its result.",
    isFor: anybody
  },
  revoke: {
    title: "Revoke at Cal.com",
    what: (whom) =>
      whom === "managed"
        ? "Cal.com forgets the refresh token. A managed user gets a new pair."
        : whom === "oauth2"
          ? "The person takes the access back at Cal.com, and has to consent again."
          : "Cal.com forgets all refresh tokens. Managed users get new pairs, Cem has to consent again.",
    promise: "Nobody has to reconnect but whose refresh token Cal.com refuses for good, and no outage looks like that.",
    isFor: anybody
  },
  down: {
    title: "Cal.com is down for 30 s",
    what: () => "Cal.com takes no connection for half a minute, and then works again.",
    promise: "An outage costs nobody the connection: a token that is still good goes on being served.",
    isFor: anybody
  },
  lose: {
    title: "Lose the next answer",
    what: (whom) =>
      whom === "managed"
        ? "Cal.com spends the refresh token, and its answer with the next one never arrives."
        : whom === "oauth2"
          ? "The same to somebody who consented: Cal.com has no second copy, so Cem has to consent again."
          : "Cal.com spends the refresh tokens, and its answers never arrive. Cem has to consent again.",
    promise: "A token of which nobody knows whether it was spent is tried once, not again and again.",
    isFor: anybody
  },
  change: {
    title: "Cal.com changes its answers",
    what: () => "The next answer has another form than ever before, in which the new token can still be found.",
    promise: "No answer with a new token is lost for being odd.",
    isFor: anybody
  },
  garble: {
    title: "Cal.com's answers become unreadable",
    what: () => "The new tokens come under names that nobody knows. This takes a minute or so.",
    promise: "Such an answer is kept, sealed, and no other token is risked until Cal.com answers as before.",
    isFor: (whom) => whom === "managed"
  }
}

export const mishaps = Object.keys(scenes) as ReadonlyArray<Mishap>

/** `Ada`, `Ada and Ben`, `Ada, Ben and Cem` */
export const listed = (names: ReadonlyArray<string>): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`

/**
 * When a refused token of somebody who consented is believed to be dead: Cal.com's replicas may not know one of a few seconds,
 * and one refusal in 30 s is repaired.
 */
const believedAt = ({ entries }: UserHistory, kind: DemoUser["kind"]): number => {
  if (kind === "managed") return 0
  const after = (seconds: number, entry: UserHistory["entries"][number] | undefined) =>
    entry === undefined ? 0 : Date.parse(entry.at) + seconds * 1_000
  return Math.max(
    after(
      11,
      entries.find(({ written }) => written === "stored")
    ),
    after(
      31,
      entries.find(({ event }) => event._tag === "Attempt" && event.trigger === "refused")
    )
  )
}

const isRefused = (found: Refreshed | ServiceError): found is ServiceError => "code" in found

/** A refresh, again when the service says so. */
const refreshing = async (
  stage: Stage,
  user: DemoUser,
  why: string,
  how: Stage["refresh"] = stage.refresh,
  times = 6
): Promise<Refreshed | ServiceError> => {
  const found = await how(user)
  const { retryAfter } = found
  const isHeld = isRefused(found) ? found.code !== "ReauthorizationRequired" : !found.refreshed
  if (!isHeld || retryAfter === undefined || times === 1) return found
  await stage.wait(stage.now() + retryAfter * 1_000, why)
  return refreshing(stage, user, why, how, times - 1)
}

const cooling = "So many refreshes have just been that the next one waits"

const kindOfRefresh = ({ kind }: DemoUser) => (kind === "managed" ? "refresh" : "oauth2Refresh")

const asked = ({ answered, refreshes, took }: Requests): string =>
  `All ${answered} were answered within ${Format.took(took)}, after ${refreshes === 1 ? "one refresh" : "the token was repaired"}.`

/** The same of requests, which are told to come back while too many refreshes have just been. */
const requesting = async (stage: Stage, user: DemoUser, times = 4): Promise<Requests> => {
  const requests = await stage.requests(user, crowd)
  const { answered, failure } = requests
  if (failure?.code !== "RefreshCoolingDown" || failure.retryAfter === undefined || times === 1) return requests
  stage.say(
    `${crowd - answered} of them were told to come back after ${failure.retryAfter} s: three refreshes in 30 s are the most ` +
      "that a user gets. They come back then."
  )
  await stage.wait(stage.now() + failure.retryAfter * 1_000, cooling)
  return requesting(stage, user, times - 1)
}

const settle = async (stage: Stage, user: DemoUser) => {
  const at = believedAt(await stage.history(user), user.kind)
  if (at > stage.now()) {
    await stage.wait(at, `Cal.com's replicas may not know so young a token, so a refusal is not believed yet`)
  }
}

const expire = async (stage: Stage, user: DemoUser): Promise<End> => {
  await settle(stage, user)
  await stage.control(`users/${user.calUserId}/expire`)
  stage.say(`Cal.com ended ${user.name}'s token before its time. ${crowd} requests use it at this moment.`)
  const requests = await requesting(stage, user)
  if (requests.failure !== undefined) return went(stage, user, requests.failure)
  stage.say(asked(requests))
  return "kept"
}

/** Otherwise than meant, in the service's words. */
const went = (
  stage: Stage,
  user: DemoUser,
  { code, error }: { readonly code: string; readonly error: string }
): End => {
  if (code === "ReauthorizationRequired") {
    stage.say(`${user.name} has to consent again.`)
    return "reconnect"
  }
  stage.say(error)
  return "odd"
}

const refused = (stage: Stage, user: DemoUser, { code, message }: ServiceError): End =>
  went(stage, user, { code, error: message })

const revoke = async (stage: Stage, user: DemoUser): Promise<End> => {
  await stage.control(`users/${user.calUserId}/revoke`)
  stage.say(
    user.kind === "managed"
      ? `Cal.com forgot ${user.name}'s refresh token. It is used now.`
      : `${user.name} took the access back at Cal.com. The refresh token is used now.`
  )
  const found = await refreshing(stage, user, cooling)
  if (isRefused(found)) {
    if (found.code !== "ReauthorizationRequired") return refused(stage, user, found)
    stage.say(`Cal.com refused it. ${user.name} has to consent again, and nobody else.`)
    return "reconnect"
  }
  stage.say(
    `Cal.com refused it, and was asked to issue a new pair. ${user.name}'s token is good again: nobody noticed.`
  )
  return "kept"
}

const lose = async (stage: Stage, user: DemoUser): Promise<End> => {
  await settle(stage, user)
  await stage.control("faults", {
    fault: "dropAfter",
    kind: kindOfRefresh(user),
    calUserId: user.calUserId,
    times: 1,
    for: soon
  })
  await stage.control(`users/${user.calUserId}/expire`)
  stage.say(
    `${crowd} requests come with ${user.name}'s token, which has ended. Cal.com's answer with the next one gets lost: ` +
      "after some seconds the old token is tried once, to find out whether it was spent."
  )
  const requests = await requesting(stage, user)
  if (requests.failure === undefined) {
    stage.say(`${asked(requests)} The old token was spent, so Cal.com was asked to issue a new pair.`)
    return "kept"
  }
  if (requests.failure.code !== "ReauthorizationRequired") return went(stage, user, requests.failure)
  stage.say(
    `It was spent, and to somebody who consented Cal.com issues no pair anew. ${user.name} has to consent again, and is told so.`
  )
  return "reconnect"
}

const forms = [
  ["otherCase", "with all names spelt otherwise"],
  ["nested", "with the tokens one level deeper"],
  ["expiryMissing", "without saying when the token ends"],
  ["expiryText", "with its numbers as texts"]
] as const

let form = 0

const change = async (stage: Stage, user: DemoUser): Promise<End> => {
  const [answer, how] = forms[form++ % forms.length] ?? forms[0]
  await stage.control("odd-answers", {
    answer,
    kind: kindOfRefresh(user),
    calUserId: user.calUserId,
    times: 1,
    for: soon
  })
  const found = await refreshing(stage, user, cooling)
  stage.say(`Cal.com answered ${user.name}'s refresh ${how}.`)
  if (isRefused(found)) return refused(stage, user, found)
  stage.say("The new token was found in it all the same, and is stored.")
  return "kept"
}

const untilTrial = "Until one user may be tried"

const garble = async (stage: Stage, user: DemoUser, others: ReadonlyArray<DemoUser>): Promise<End> => {
  await stage.control("odd-answers", {
    answer: "tokensRenamed",
    kind: "refresh",
    calUserId: user.calUserId,
    times: 1,
    for: soon
  })
  const found = await stage.refresh(user)
  if (!isRefused(found)) {
    stage.say("So many refreshes have just been that none was sent. Try again in half a minute.")
    return "odd"
  }
  if (found.code !== "CalProtocolError") return refused(stage, user, found)
  stage.say(
    `Nobody finds ${user.name}'s new token in Cal.com's answer. It is kept, sealed, for a version that does, and the token ` +
      "that is still good goes on being served. No other managed user's token is risked: one at a time is tried, 30 s apart."
  )
  const other = others.find(({ kind, userUlid }) => kind === "managed" && userUlid !== user.userUlid)
  if (other !== undefined) {
    await stage.wait(stage.now() + outage, untilTrial)
    const tried = await refreshing(stage, other, untilTrial, stage.reissue)
    if (isRefused(tried)) return refused(stage, other, tried)
    stage.say(
      `${other.name} was tried: Cal.com was asked for a new pair, which spends no token, and answers as before. ` +
        "So refreshing goes on."
    )
  }
  const healed = await refreshing(stage, user, "A refresh that failed is tried again a minute later")
  if (isRefused(healed)) return refused(stage, user, healed)
  stage.say(`${user.name} was issued a new pair. Nobody had to reconnect.`)
  return "kept"
}

const down = async (stage: Stage, users: ReadonlyArray<DemoUser>): Promise<End> => {
  const [only] = users
  const names = listed(users.map(({ name }) => name))
  await stage.control("faults", {
    fault: "refuseConnection",
    pathPrefix: "/v2/",
    for: outage,
    ...(users.length === 1 && only !== undefined ? { calUserId: only.calUserId } : {})
  })
  const until = stage.now() + outage
  const tried = await Promise.all(users.map((user) => stage.refresh(user)))
  const failed = tried.filter((found) => isRefused(found) && found.code === "CalUnavailable").length
  stage.say(
    failed === 0
      ? `Cal.com takes no connection for ${names}.`
      : `Cal.com takes no connection for ${names}. ${Format.counted(failed, "refresh was", "refreshes were")} tried: nothing was spent, and the tokens that there are serve on.`
  )
  await stage.wait(until, "Cal.com is down")
  const back = stage.now()
  const again = await Promise.all(users.map((user) => refreshing(stage, user, "A refresh that failed waits a little")))
  const reasons = again.flatMap((found) => (isRefused(found) ? [found] : []))
  const [reason] = reasons
  if (reason !== undefined) {
    stage.say(reason.message)
    return reasons.some(({ code }) => code === "ReauthorizationRequired") ? "reconnect" : "odd"
  }
  stage.say(
    `Cal.com is back, and ${names} ${users.length === 1 ? "was" : "were"} refreshed ${Format.took(stage.now() - back)} later. Nobody has to reconnect.`
  )
  return "kept"
}

/** Plays it to one user, or an outage to several. `everybody`: of the demo. */
export const play = (
  mishap: Mishap,
  stage: Stage,
  users: ReadonlyArray<DemoUser>,
  everybody: ReadonlyArray<DemoUser>
): Promise<End> => {
  const [user] = users
  if (user === undefined) return Promise.resolve("odd")
  switch (mishap) {
    case "expire":
      return expire(stage, user)
    case "revoke":
      return revoke(stage, user)
    case "lose":
      return lose(stage, user)
    case "change":
      return change(stage, user)
    case "garble":
      return garble(stage, user, everybody)
    case "down":
      return down(stage, users)
  }
}
