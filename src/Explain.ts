/**
 * Why a user's connection stands as it does, for whoever is asked: a person's sentences of the user's history, and what to do.
 * A pure function of what the storage knows. It claims what there is evidence for, and no more: Cal.com forgets a refresh
 * token in the same words when another system spends it and when the person takes the access back, so that is one cause.
 *
 * | Cause                    | Evidence                                                                                      |
 * | ------------------------ | --------------------------------------------------------------------------------------------- |
 * | `managedUserGone`        | asked to reissue, Cal.com says that the managed user is none of the client's                   |
 * | `storageWentBack`        | a process knew a newer row than the storage had: what it has was spent by then                 |
 * | `answerLost`             | a call that spent the token had no answer that tells, and then the token was refused           |
 * | `answerUnreadable`       | the same with an answer in which nobody found the next token                                   |
 * | `processDied`            | an attempt at the token never ended, and then the token was refused                            |
 * | `deadWhenHandedIn`       | handed in, and refused at its first use within a minute, or never a token of Cal.com's          |
 * | `lostSinceHandedIn`      | handed in, and refused at its first use some time later: dead before, or since                 |
 * | `refreshTokenExpired`    | refused when its own time was over                                                             |
 * | `accountGone`            | OAuth2: the access token was refused before its time, too, which no other use of the grant does |
 * | `unknownToCal`           | refused as none of Cal.com's tokens, though its time was not over                              |
 * | `anotherSystemOrPerson`  | forgotten by Cal.com, though this service never spent it                                       |
 * | `untold`                 | the history does not reach back so far                                                         |
 */
import { Option } from "effect"
import type { Cause, Entry, Event, Step } from "./History.js"
import { iso } from "./Token.js"
import type { StoredHistory } from "./TokenStorage.js"

/**
 * What happened at an instant, for people.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sentence {
  /** Milliseconds since the epoch, by the storage's clock. */
  readonly at: number
  readonly text: string
}

/**
 * How it came to that, the latest last; how it stands; and what to do.
 *
 * @since 0.1.0
 * @category models
 */
export interface Explanation {
  readonly sentences: ReadonlyArray<Sentence>
  /** Of a user who has to reconnect. */
  readonly cause?: Cause | undefined
  readonly conclusion: string
  readonly advice: string
}

/** Who is refused so soon after a token was handed in had a dead one: nobody else had the time. */
const promptly = 60_000

type Attempt = Extract<Event, { readonly _tag: "Attempt" }>

/** The entries of an attempt. */
interface Attempted extends Entry {
  readonly event: Attempt
}

const isAttempt = (entry: Entry): entry is Attempted => entry.event._tag === "Attempt"

const isVerdict = (entry: Entry): entry is Attempted =>
  isAttempt(entry) && entry.event.end === "terminal" && entry.written === "recorded"

/** The token that an entry made the row's. */
const storedBy = ({ event, written }: Entry): string | undefined =>
  written !== "stored" || event._tag === "Lapsed"
    ? undefined
    : event._tag === "Attempt" || event._tag === "Read"
      ? event.brought
      : event.token

const cameFromOutside = ({ event, written }: Entry) =>
  written === "stored" && (event._tag === "Connected" || event._tag === "Updated" || event._tag === "Imported")

/** Somebody says that it works, and Cal.com has not said so. */
const isHandedIn = ({ event }: Entry) =>
  event._tag === "Updated" || event._tag === "Imported" || (event._tag === "Connected" && !event.isGranted)

/** What leaves open whether a token was spent. */
const doubtOf = (entry: Entry): "answerLost" | "answerUnreadable" | "processDied" | undefined => {
  if (entry.event._tag === "Lapsed") return "processDied"
  if (!isAttempt(entry)) return undefined
  // Of a token whose time was over nothing was spent.
  const spending = entry.event.steps.filter(({ as, isExpired }) => as !== "reissue" && isExpired !== true)
  const answers = spending.map(({ answer }) => answer)
  return answers.includes("unreadable") ? "answerUnreadable" : answers.includes("unknown") ? "answerLost" : undefined
}

interface Judgement {
  readonly cause: Cause
  /** The refusal that decided. */
  readonly verdict?: Attempted | undefined
  /** Where the token came from. */
  readonly origin?: Entry | undefined
  /** What told. */
  readonly evidence?: Entry | undefined
}

/** Why the user has to reconnect. */
const judge = ({ connection, entries }: StoredHistory): Judgement => {
  const at = entries.findLastIndex(isVerdict)
  const verdict = entries.filter(isVerdict).at(-1)
  if (connection.status._tag !== "Active" && connection.status.cause === "calUserGone") {
    return { cause: "managedUserGone", verdict }
  }
  if (verdict === undefined) return { cause: "untold" }
  const from = entries.slice(0, at).findLastIndex((entry) => storedBy(entry) !== undefined)
  const origin = entries[from]
  const since = entries.slice(Math.max(0, from), at + 1)
  const found = { verdict, origin }

  const wentBack = since.find((entry) => isAttempt(entry) && entry.event.wentBack === true)
  if (wentBack !== undefined) return { cause: "storageWentBack", evidence: wentBack, ...found }
  for (const evidence of since) {
    const cause = doubtOf(evidence)
    if (cause !== undefined) return { cause, evidence, ...found }
  }

  const step = own(verdict.event)
  if (origin !== undefined && isHandedIn(origin)) {
    const isPrompt = verdict.at - verdict.event.took - origin.at <= promptly
    const wasNone = step?.refusal === "invalid" && step.isExpired !== true
    if (isPrompt || wasNone) return { cause: "deadWhenHandedIn", ...found }
    return { cause: step?.isExpired === true ? "refreshTokenExpired" : "lostSinceHandedIn", ...found }
  }
  if (step?.isExpired === true) return { cause: "refreshTokenExpired", ...found }
  if (step?.refusal === "invalid") return { cause: "unknownToCal", ...found }
  const refused = since.find((entry) => isAttempt(entry) && entry.event.trigger === "refused")
  if (refused !== undefined) return { cause: "accountGone", evidence: refused, ...found }
  return { cause: "anotherSystemOrPerson", ...found }
}

/** The refusal of the row's own token. */
const own = ({ steps }: Attempt): Step | undefined =>
  steps.findLast(({ answer, as }) => answer === "rejected" && as !== "fallback") ??
  steps.findLast(({ answer }) => answer === "rejected")

/**
 * Explains a user's connection.
 *
 * @since 0.1.0
 * @category conversions
 */
export const explain = (history: StoredHistory): Explanation => {
  const sentences = [...history.entries.map((entry) => ({ at: entry.at, text: tell(entry) })), ...openSentence(history)]
  const { status } = history.connection
  if (status._tag === "Active") return { sentences, ...present(history) }
  const judgement = judge(history)
  return {
    sentences,
    cause: judgement.cause,
    conclusion: `Asked to reconnect since ${iso(status.since)} because ${because(judgement, history)}`,
    advice: `${reconnect[history.connection.connection._tag]} ${prevention[judgement.cause]}`.trim()
  }
}

const openSentence = ({ at, open }: StoredHistory): ReadonlyArray<Sentence> =>
  open === undefined
    ? []
    : [
        {
          at: open.startedAt,
          text:
            open.leaseUntil > at
              ? `${capital(by(open.process))} is at it: a refresh is under way.`
              : `${capital(by(open.process))} began a refresh that has not ended: the process died or sleeps. The next one looks ` +
                `whether ${tokenOf(open.token)} was spent.`
        }
      ]

/** How it stands with a user who need not reconnect. */
const present = ({ circuit, connection, entries, open }: StoredHistory): Pick<Explanation, "advice" | "conclusion"> => {
  const serves = `The access token serves until ${iso(connection.accessTokenExpiresAt)};`
  if (circuit !== undefined) {
    const { advice, fault } = circuits[circuit.cause]
    return {
      conclusion:
        `Connected, but since ${iso(circuit.openedAt)} nobody of the client ${circuit.clientId} is refreshed: ` +
        `${fault}. ${serves} the next trial is at ${iso(circuit.trialAt)}.`,
      advice
    }
  }
  // What was tried with the pair before the one that came from outside says nothing of this one.
  const from = entries.findLastIndex(cameFromOutside)
  const last = entries
    .slice(from + 1)
    .filter(isAttempt)
    .findLast(({ written }) => written !== "late")
  const came = entries[from]
  if (last === undefined || last.event.end === "granted") {
    return {
      conclusion:
        last === undefined
          ? `Connected; nothing was refreshed${open === undefined ? "" : " to its end"} ` +
            `${came === undefined ? "in the last 30 days" : `since ${iso(came.at)}`}.`
          : `Connected; last refreshed at ${iso(last.at)}.`,
      advice: "Nothing to do."
    }
  }
  const until = `${serves} whoever asks for a token next, or the next round, tries again.`
  const failed = `Connected, but the last refresh, at ${iso(last.at)}, failed:`
  switch (last.event.end) {
    case "unknown":
      if (isSealed(last)) {
        return {
          conclusion: `${failed} Cal.com's answer could not be read, and is kept, sealed, with the next token in it. ${until}`,
          advice: circuits.drift.advice
        }
      }
      return { conclusion: `${failed} whether Cal.com spent the token is not known yet. ${until}`, advice: nothingYet }
    case "released":
    case "terminal":
      return {
        conclusion: `${failed} Cal.com refused the client or many users at once, and nobody is asked to reconnect for that. ${until}`,
        advice: "Look at the client's id and secret, and at what the log says of its circuit."
      }
    case "notSpent":
      return {
        conclusion: `${failed} Cal.com did not take the token, which is good still. ${until}`,
        advice: nothingYet
      }
  }
}

/** The answer was to the attempt, or came when that was over. */
const isSealed = ({ event, written }: Attempted) =>
  written === "sealed" || (written === "recorded" && event.steps.at(-1)?.answer === "unreadable")

const circuits = {
  client: {
    fault: "Cal.com refuses the client",
    advice: "Compare the client's id and secret at Cal.com with the settings of this service."
  },
  brake: {
    fault: "Cal.com refused many users at once",
    advice:
      "Look for a second system that refreshes the same users, and whether client and address are right. Until a trial " +
      "succeeds nobody else is told to reconnect."
  },
  drift: {
    fault: "Cal.com answers in a way that this version cannot read",
    advice: "Install the latest version: it reads what was kept."
  }
} as const

const nothingYet = "Nothing to do yet: it heals by itself. If it lasts, look at Cal.com's status and at this network."

const because = ({ cause, evidence, origin, verdict }: Judgement, history: StoredHistory): string => {
  const refused = verdict === undefined ? "" : iso(verdict.at)
  const doubt =
    evidence === undefined ? "" : iso(evidence.event._tag === "Lapsed" ? evidence.event.startedAt : evidence.at)
  const who = evidence === undefined ? "" : by(evidence.event.process)
  const came = origin === undefined ? "" : iso(origin.at)
  switch (cause) {
    case "managedUserGone":
      return "Cal.com says that the managed user does not exist there any more, or is another client's: somebody deleted it."
    case "storageWentBack":
      return (
        `the database went back in time: ${who} knew a newer token than the one that was stored. ` +
        "A backup was restored, or a replica that lagged took over, and what it holds was spent long ago."
      )
    case "answerLost":
      return (
        `Cal.com's answer of ${doubt} to ${who} never arrived whole, and the next refresh token was in it: ` +
        `the one before was spent, and refused at ${refused}.`
      )
    case "answerUnreadable":
      return (
        `Cal.com answered ${who} at ${doubt} in a form in which nobody finds the next refresh token. ` +
        `The one before was spent, and refused at ${refused}.`
      )
    case "processDied":
      return (
        `${who} began a refresh at ${doubt} and never ended it: it died, or slept too long, between sending the ` +
        `refresh token and storing the next one. The token was refused at ${refused}.`
      )
    case "deadWhenHandedIn":
      return (
        `the refresh token that was handed in at ${came} was dead already: Cal.com refused it at its first use, ` +
        `at ${refused}.`
      )
    case "lostSinceHandedIn":
      return (
        `the refresh token that was handed in at ${came} never worked here: Cal.com refused it at its first use, at ` +
        `${refused}. It was dead already, or whoever handed it in, or another system, spent it since, or the person ` +
        "removed the access."
      )
    case "refreshTokenExpired":
      return `the refresh token's own time was over when it was used next, at ${refused}: nobody had refreshed the user before.`
    case "accountGone":
      return (
        `Cal.com refused the access token before its time, too, and forgot the refresh token by ${refused}: ` +
        "the person's account at Cal.com is gone, or locked."
      )
    case "unknownToCal":
      return (
        `Cal.com refused the refresh token at ${refused} as none of its own, though it had granted it: ` +
        "its signing key was changed, or this is another Cal.com."
      )
    case "anotherSystemOrPerson":
      return (
        `a refresh token that this service never spent was refused at ${refused}: another system refreshes this user, ` +
        `or the person removed the access.${hints(history)}`
      )
    case "untold":
      return "Cal.com refused the refresh token. The history does not reach back to when and why."
  }
}

/** What speaks for one of the two. */
const hints = ({ connection: { status }, entries }: StoredHistory): string => {
  const imported = "importedAt" in status ? status.importedAt : undefined
  const times = entries.filter(isVerdict).length
  return [
    imported === undefined
      ? ""
      : ` The user was imported at ${iso(imported)}: the system before may refresh them still.`,
    times < 3
      ? ""
      : ` It is the ${ordinals[times - 3] ?? `${times}th`} time in this history, which people seldom do and other systems do.`
  ].join("")
}

const ordinals = ["third", "fourth", "fifth"]

const reconnect = {
  ManagedUser: "Create the managed user anew, or connect the one that took its place.",
  OAuth2: "Let the person consent again: send them through your connect page."
} as const

const prevention: Readonly<Record<Cause, string>> = {
  managedUserGone: "",
  storageWentBack: "Expect the same of whoever was refreshed between the backup and its restoring.",
  answerLost: "Nothing was done wrong here; if it repeats, look at the network between this service and Cal.com.",
  answerUnreadable: "The answer is kept, sealed: a newer version of this program may still find the token in it.",
  processDied: "Let processes end in good order (30 s between SIGTERM and SIGKILL), and look why this one did not.",
  deadWhenHandedIn: "Hand in the pair that Cal.com answered last, and let nobody else spend it from then on.",
  lostSinceHandedIn: "Let nobody else spend what was handed in: stop the system that had it before.",
  refreshTokenExpired:
    "Let refreshes ahead run (serve, or sweep), which keep the grants of users whom nobody asks for.",
  accountGone: "Ask whether they still have that account.",
  unknownToCal: "Compare the API's address with the one that the person consented at.",
  anotherSystemOrPerson:
    "Look for a second system with the same client and user, and stop one of the two; then ask the person.",
  untold: ""
}

/** One entry as a sentence. */
const tell = (entry: Entry): string => {
  const { event, written } = entry
  switch (event._tag) {
    case "Connected":
      return event.isGranted
        ? `Connected: Cal.com granted ${tokenOf(event.token)} to ${by(event.process)}.`
        : `Connected: somebody handed in ${tokenOf(event.token)} to ${by(event.process)}.`
    case "Updated":
      return `Somebody handed in ${tokenOf(event.token)} for the same account to ${by(event.process)}.`
    case "Imported":
      return `Imported by ${by(event.process)} with ${tokenOf(event.token)}.`
    case "Read":
      return (
        `An answer of Cal.com to ${tokenOf(event.token)} that was kept could be read by ${by(event.process)}: it held ` +
        `${tokenOf(event.brought)}${written === "kept" ? ", which is kept beside a newer one" : ""}.`
      )
    case "Lapsed":
      return (
        `A refresh of ${iso(event.startedAt)} by ${by(event.process)} never ended: the process died or slept, and ` +
        `${tokenOf(event.token)} may have been spent.`
      )
    case "Attempt":
      return [
        [capital(by(event.process)), ...doing(event)].join(" "),
        event.steps.length === 0 ? " sent nothing" : "",
        event.steps.map((step) => ` ${tellStep(step)}`).join(", then"),
        `. ${outcome({ ...entry, event })}`
      ].join("")
  }
}

const doing = ({ purpose, trigger, wentBack }: Attempt): ReadonlyArray<string> =>
  [
    purpose === "reissue" ? "(asked to reissue)" : "",
    trigger === "ahead"
      ? "(before anybody asked)"
      : trigger === "refused"
        ? "(Cal.com had refused the access token)"
        : "",
    wentBack === true ? "(it knew a newer token than was stored)" : ""
  ].filter((text) => text !== "")

const tellStep = ({ answer, as, error, isExpired, isLate, refusal, status, token }: Step): string => {
  const sent =
    as === "reissue"
      ? "had Cal.com reissue the pair"
      : `sent ${as === "fallback" ? "the kept " : as === "again" ? "once more " : as === "probe" ? "to find out " : ""}${tokenOf(token)}`
  const details = [
    status === undefined ? [] : [String(status)],
    refusal === undefined ? [] : [refusals[refusal]],
    isExpired === true ? ["its time was over"] : [],
    error === undefined ? [] : [error]
  ].flat()
  return `${sent}: ${isLate === true ? "late, " : ""}${answers[answer]}${details.length === 0 ? "" : ` (${details.join(", ")})`}`
}

const answers: Readonly<Record<Step["answer"], string>> = {
  granted: "granted",
  rejected: "refused",
  notSpent: "not taken",
  unknown: "no answer that tells",
  unreadable: "an answer that nobody can read",
  clientWide: "the client was refused",
  userGone: "no such user"
}

const refusals: Readonly<Record<NonNullable<Step["refusal"]>, string>> = {
  revoked: "forgotten",
  invalid: "not valid",
  unknown: "not known",
  raced: "spent that very moment"
}

const outcome = (entry: Attempted): string => {
  const { event, written } = entry
  if (written === "late") return "Nothing was written, for another process had taken over."
  switch (event.end) {
    case "granted":
      return written === "kept"
        ? `The pair with ${tokenOf(event.brought)} is kept beside a newer one.`
        : `The pair with ${tokenOf(event.brought)} is stored.`
    case "notSpent":
      return "Nothing was spent."
    case "unknown":
      return isSealed(entry)
        ? "The answer is kept, sealed."
        : "The token may have been spent; it is tried once more later."
    case "released":
      return "The user is not at fault, and nothing was held against them."
    case "terminal":
      return written === "spared"
        ? "Too many were refused at once, or an answer is kept: the user was not marked."
        : "The user has to reconnect."
  }
}

const tokenOf = (name: string | undefined): string => (name === undefined ? "a refresh token" : `refresh token ${name}`)

const by = (process: string | undefined): string => (process === undefined ? "a process" : `process ${process}`)

const capital = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1)

/**
 * An explanation in lines, the latest last, then how it stands and what to do.
 *
 * @since 0.1.0
 * @category conversions
 */
export const toLines = ({ advice, cause, conclusion, sentences }: Explanation): ReadonlyArray<string> => [
  ...sentences.map(({ at, text }) => `${iso(at)}  ${text}`),
  ...(sentences.length === 0 ? [] : [""]),
  conclusion,
  advice,
  ...Option.match(Option.fromNullable(cause), { onNone: () => [], onSome: (cause) => [`(${cause})`] })
]
