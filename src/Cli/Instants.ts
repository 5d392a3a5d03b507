/** Instants for eyes. */
const format = new Intl.RelativeTimeFormat("en", { style: "short", numeric: "always" })

const units = [
  ["day", 86_400_000, 2],
  ["hour", 3_600_000, 1],
  ["minute", 60_000, 1],
  ["second", 1000, 0]
] as const

/** Such as "in 4 min" and "3 days ago", from `now`; both are milliseconds since the epoch. */
export const relative = (instant: number, now: number): string => {
  const distance = instant - now
  const [unit, length] = units.find(([, length, least]) => Math.abs(distance) >= least * length) ?? units[3]
  return format.format(Math.trunc(distance / length), unit).replace(".", "")
}
