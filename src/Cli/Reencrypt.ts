/** `cal-tokens reencrypt`: seals everything anew under the first key, while the service goes on. */
import { Command, Options } from "@effect/cli"
import { Clock, Console, Duration, Effect } from "effect"
import * as Logging from "../Environment/Logging.js"
import { type KeyInUse, type Kind, kinds, layerReencryption, Reencryption } from "../Environment/Services.js"
import { longest } from "../FlowStorage.js"
import { KeyRing } from "../KeyRing.js"
import { number } from "./Numbers.js"
import * as Operating from "./Operating.js"
import * as Progress from "./Progress.js"

/** As long as a process writes under another key, there is always something left. */
const maxRounds = 5
const pause = "500 millis"

const titles: Readonly<Record<Kind, string>> = {
  pairs: "pairs",
  fallbacks: "fallbacks",
  handedOut: "hand-outs",
  sealedAnswers: "answers",
  flows: "flows"
}

const run = (isCheck: boolean) =>
  Effect.gen(function* () {
    const { cal, log } = yield* Operating.settings
    const isDone = yield* Effect.provide(Operating.orStartError(Effect.zipRight(isCheck ? Effect.void : seal, check)), [
      layerReencryption(cal.database),
      Logging.layer(log)
    ])
    // The ring cannot be made smaller yet, or does not open everything.
    if (!isDone) yield* Operating.lookAtIt
  }).pipe(
    Operating.answering,
    // Whoever stops it has not had what it is for.
    Effect.onInterrupt(() => Effect.dieMessage("stopped"))
  )

const options = {
  check: Options.boolean("check").pipe(
    Options.withDescription("Change nothing: tell which keys are in use, and which can go.")
  )
}

export const command = Command.make("reencrypt", options, ({ check }) => run(check)).pipe(
  Command.withDescription("Seal everything anew under the first encryption key, while the service runs.")
)

const seal = Effect.gen(function* () {
  const { keysInUse, round } = yield* Reencryption
  const began = yield* Clock.currentTimeMillis
  const before = yield* keysInUse
  const total = before.reduce((sum, { counts }) => sum + counts.pairs, 0)
  let moved = 0
  let unreadable = 0
  for (let rounds = 1; ; rounds++) {
    const progress = yield* Progress.make(process.stderr, "rows", total)
    const done = yield* Effect.ensuring(round(progress.advance), progress.end)
    moved += done.moved
    unreadable = done.unreadable
    // A round that wrote something may have been overtaken by somebody who writes under another key.
    if ((done.moved === 0 && done.left === 0) || rounds === maxRounds) break
    yield* Effect.sleep(pause)
  }
  const seconds = Math.max(1, Math.round(((yield* Clock.currentTimeMillis) - began) / 1000))
  yield* Console.log(`${number(moved)} of ${number(total)} rows were sealed anew, in ${seconds} s.`)
  if (unreadable > 0) {
    yield* Console.log(
      `${number(unreadable)} cannot be opened with the keys that are configured, and stay as they are.`
    )
  }
  yield* Console.log("")
})

/** Whether the first key alone would do. */
const check = Effect.gen(function* () {
  const { keysInUse } = yield* Reencryption
  const { ids } = yield* KeyRing
  const used = yield* keysInUse
  yield* Console.log(table(used, ids))
  const [first, ...others] = ids
  const needed = used.filter(({ id }) => id !== first).filter(({ counts }) => isNeeded(counts))
  const missing = needed.filter(({ id }) => !ids.includes(id))
  const free = others.filter((id) => !used.some((each) => each.id === id && Object.values(each.counts).some(Boolean)))
  const busy = others.filter((id) => !free.includes(id))
  yield* Console.log(
    [
      "",
      ...busy.map((id) => `${id} is still needed: run cal-tokens reencrypt when every process has ${first} first.`),
      ...missing.map(({ id }) =>
        id === ""
          ? "Some rows do not name a key: they were altered, and their users have to connect again."
          : `${id} is not configured: its rows cannot be read until it is added at the end of the list.`
      ),
      ...free.map((id) => `${id} can go from CAL_TOKENS_ENCRYPTION_KEYS.`),
      ...(free.length === 0 ? [] : [afterwards]),
      ...(needed.length === 0 && busy.length === 0 && free.length === 0 ? [`${first} alone is in use.`] : [])
    ].join("\n")
  )
  return needed.length === 0 && busy.length === 0
})

/** Of hand-outs under a key that is gone: nobody misses them, for they would be over soon. */
const isNeeded = (counts: KeyInUse["counts"]) => kinds.some((kind) => kind !== "handedOut" && counts[kind] > 0)

const afterwards =
  "What it signed ends with it: user sessions, for 24 hours at most after the first key was put first everywhere, and the " +
  `consent of whoever has been at Cal.com for it, for ${Duration.format(longest)}.`

const table = (used: ReadonlyArray<KeyInUse>, ids: ReadonlyArray<string>): string => {
  const rows = used.map(({ counts, id }) => [
    `${id || "(none)"}${id === ids[0] ? " (first)" : ids.includes(id) ? "" : " (not configured)"}`,
    ...kinds.map((kind) => number(counts[kind]))
  ])
  const lines = [["key", ...kinds.map((kind) => titles[kind])], ...rows]
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? []
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
    )
    .join("\n")
}
