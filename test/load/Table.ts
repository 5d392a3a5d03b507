/** What a run saw, for people. */
import { kinds } from "./Figures.js"
import type { Result } from "./Result.js"

const names = {
  ensure: "ensure-token",
  proxy: "proxied request",
  session: "user session",
  newSession: "new user session",
  atoms: "Atoms"
} as const

/** Nothing is lost, nobody had to reconnect who need not, and whoever was told to stop ended well. */
export const isSound = ({ badExits, verdict }: Result): boolean =>
  verdict.lostPairs.length === 0 && verdict.wrongReconnects.length === 0 && badExits.length === 0

export const render = (result: Result): string => {
  const { refreshes, settings, verdict, waits } = result
  const { active, met } = waits
  const sections = [
    `${whole(settings.users)} users, ${percent(settings.inUse)} of them in use, tokens of ${settings.lifetime} s, ${settings.processes} processes, Cal.com ` +
      `${settings.latency} ms away, mishaps on ${percent(settings.mishaps)} of its calls, seed ${settings.seed}; made in ` +
      `${result.setUpSeconds.toFixed(0)} s\n` +
      `asked: ${settings.rate} requests a second for ${settings.seconds} s, besides pages; answered: ` +
      `${result.reached.toFixed(1)} a second`,
    table(
      ["", "requests", "p50 ms", "p95", "p99", "max", "429", "no 2xx"],
      kinds.map((kind) => {
        const { answers, max, p50, p95, p99, requests } = result.kinds[kind]
        const counted = (matches: (label: string) => boolean) =>
          Object.entries(answers).reduce((sum, [label, n]) => (matches(label) ? sum + n : sum), 0)
        return [
          names[kind],
          whole(requests),
          ...[p50, p95, p99, max].map(short),
          whole(counted((label) => label.startsWith("429"))),
          whole(counted((label) => !label.startsWith("2")))
        ]
      })
    ),
    ...kinds.flatMap((kind) => {
      const odd = Object.entries(result.kinds[kind].answers).filter(([label]) => !label.startsWith("2"))
      return odd.length === 0
        ? []
        : [`${names[kind].padEnd(18)}${odd.map(([label, n]) => `${label}: ${whole(n)}`).join(", ")}`]
    }),
    table(
      ["callers by the pair they met", "asked", "waited", "held up as long", "without waiting", "at least"],
      Object.entries({ ...met, "of users in use": active }).map(([name, { asked, heldUp, waited }]) => [
        name,
        ...[asked, waited, heldUp].map(whole),
        share(asked - waited, asked),
        share(asked - waited - heldUp, asked)
      ])
    ),
    [
      `refreshes per expiry          ${refreshes.perExpiry.toFixed(3)} (${whole(refreshes.granted)} pairs granted)`,
      `presented again without cause ${whole(refreshes.presentedAgain)}`,
      `mishaps of token calls        ${whole(Object.values(result.mishaps).reduce((sum, n) => sum + n, 0))}`,
      `lost pairs                    ${whole(verdict.lostPairs.length)}`,
      `wrong reconnects              ${whole(verdict.wrongReconnects.length)}`,
      `right reconnects              ${whole(verdict.rightReconnects)} (answers that Cal.com lost, consent withdrawn)`,
      `pairs that a process died with ${whole(verdict.diedWithProcess.length)}`
    ].join("\n"),
    table(
      ["process", "seconds", "RSS MiB, start", "end", "a minute", "processor", "loop late p99 ms", "max"],
      result.processes.map(({ cpu, delay, name, rss, seconds }) => [
        name,
        seconds.toFixed(0),
        rss.start.toFixed(0),
        rss.end.toFixed(0),
        rss.aMinute === undefined ? "–" : (rss.aMinute >= 0 ? "+" : "") + rss.aMinute.toFixed(2),
        percent(cpu),
        short(delay.p99),
        short(delay.max)
      ])
    ),
    ...result.badExits.map((exit) => `ended badly: ${exit}`),
    `whoever asked was late by ${short(result.lateness.p99)} ms (p99), ${short(result.lateness.max)} ms at most, and ` +
      `took ${percent(result.others.own)} of a processor; Cal.com ${percent(result.others.cal)}`
  ]
  return sections.join("\n\n")
}

const whole = (n: number) => n.toLocaleString("en")
const short = (n: number) => (Number.isNaN(n) ? "–" : n < 100 ? n.toFixed(1) : n.toFixed(0))
const percent = (n: number) => `${(n * 100).toFixed(0)} %`
const share = (part: number, all: number) => (all === 0 ? "–" : `${((part / all) * 100).toFixed(2)} %`)

/** The first column to the left, the others to the right. */
const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]?.length ?? 0)))
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("  ")
        .trimEnd()
    )
    .join("\n")
}
