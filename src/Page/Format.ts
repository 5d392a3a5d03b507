/** Numbers, durations and instants for people. Pure: `now` and the time zone are given, the zone of the browser by default. */

const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

/** An instant of an answer, or milliseconds since 1970. */
export type At = string | number

const millis = (at: At): number => (typeof at === "number" ? at : Date.parse(at))

const numbers = new Intl.NumberFormat("en")

/** `98,412` */
export const count = (value: number): string => numbers.format(value)

/** An estimate, to the digits that it is good for: `98,000` */
export const rounded = (value: number): string => {
  const step = value >= 10_000 ? 1_000 : 100
  return count(Math.round(value / step) * step)
}

/** `about 98,000` where the number is an estimate. */
export const users = (value: number, isEstimated: boolean): string =>
  isEstimated ? `about ${rounded(value)}` : count(value)

/** `1 person has`, `37 people have` */
export const counted = (value: number, one: string, many: string): string =>
  `${count(value)} ${value === 1 ? one : many}`

/** With a capital, as a sentence begins. */
export const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

/** How long something took: `190 ms`, `1.24 s`, `12.4 s`, `2 min 5 s` */
export const took = (value: number): string => {
  const rounded = Math.round(value)
  if (rounded < second) return `${rounded} ms`
  if (value < 9_995) return `${(value / second).toFixed(2)} s`
  if (value < 59_950) return `${(value / second).toFixed(1)} s`
  const seconds = Math.round(value / second)
  return `${Math.floor(seconds / 60)} min${seconds % 60 === 0 ? "" : ` ${seconds % 60} s`}`
}

/** The same of round numbers, for an axis: `100 ms`, `10 s` */
export const tookShort = (value: number): string => (value < second ? `${value} ms` : `${value / second} s`)

const days = (value: number): string => (value === 1 ? "1 day" : `${value} days`)

/** How long something lasts: `34 s`, `4 min`, `2 h 5 min`, `3 days` */
export const duration = (ms: number): string => {
  const left = Math.max(0, ms)
  if (left < minute) return `${Math.floor(left / second)} s`
  if (left < hour) return `${Math.floor(left / minute)} min`
  if (left >= 2 * day) return days(Math.floor(left / day))
  const minutes = Math.floor((left % hour) / minute)
  return `${Math.floor(left / hour)} h${minutes === 0 ? "" : ` ${minutes} min`}`
}

type Zone = string | undefined

const formats = new Map<string, Intl.DateTimeFormat>()

const format = (name: string, options: Intl.DateTimeFormatOptions, zone: Zone): Intl.DateTimeFormat => {
  const key = `${name} ${zone ?? ""}`
  const known = formats.get(key)
  if (known !== undefined) return known
  const made = new Intl.DateTimeFormat("en-GB", { ...options, ...(zone === undefined ? {} : { timeZone: zone }) })
  formats.set(key, made)
  return made
}

const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const

/** `10:02` */
export const clock = (at: At, zone?: Zone): string => format("clock", time, zone).format(millis(at))

/** `10:02:11` */
export const clockWithSeconds = (at: At, zone?: Zone): string =>
  format("seconds", { ...time, second: "2-digit" }, zone).format(millis(at))

/** Days since 1970 by the calendar of the zone. */
const dayNumber = (at: number, zone: Zone): number => {
  const parts = format("day", { year: "numeric", month: "numeric", day: "numeric" }, zone).formatToParts(at)
  const part = (type: string) => Number(parts.find((each) => each.type === type)?.value)
  return Date.UTC(part("year"), part("month") - 1, part("day")) / day
}

/** `28 Nov`, with the year where it is another one */
const date = (at: number, now: number, zone: Zone): string => {
  const year = format("year", { year: "numeric" }, zone)
  return year.format(at) === year.format(now)
    ? format("date", { day: "numeric", month: "short" }, zone).format(at)
    : format("dated", { day: "numeric", month: "short", year: "numeric" }, zone).format(at)
}

/** The day, as people name it: `today`, `yesterday`, `tomorrow`, `28 Nov` */
export const dayName = (at: At, now: number, zone?: Zone): string => {
  const instant = millis(at)
  switch (dayNumber(instant, zone) - dayNumber(now, zone)) {
    case 0:
      return "today"
    case -1:
      return "yesterday"
    case 1:
      return "tomorrow"
    default:
      return date(instant, now, zone)
  }
}

/** A point in time by the calendar: `10:02`, `yesterday 10:02`, `28 Nov 10:02` */
export const point = (at: At, now: number, zone?: Zone): string => {
  const name = dayName(at, now, zone)
  return name === "today" ? clock(at, zone) : `${name} ${clock(at, zone)}`
}

/** `since 10:02`, `since yesterday 10:02`, `since 28 Nov 10:02` */
export const since = (at: At, now: number, zone?: Zone): string => `since ${point(at, now, zone)}`

/** How far off it is, and from a day on when it is: `now`, `in 4 min`, `4 min ago`, `yesterday 10:02` */
export const relative = (at: At, now: number, zone?: Zone): string => {
  const off = millis(at) - now
  const far = Math.abs(off)
  if (far < second) return "now"
  if (far >= day || (far >= 6 * hour && dayName(at, now, zone) !== "today")) return point(at, now, zone)
  return off < 0 ? `${duration(far)} ago` : `in ${duration(far)}`
}

/** The same of what is to happen: `any moment` once its time has come */
export const due = (at: At, now: number, zone?: Zone): string =>
  millis(at) - now < second ? "any moment" : relative(at, now, zone)

/** The instant itself: `Sat 28 Nov 2026, 10:02:11 GMT+1` */
export const exact = (at: At, zone?: Zone): string => {
  const weekday = { weekday: "short", day: "numeric", month: "short", year: "numeric" } as const
  const options = { ...weekday, ...time, second: "2-digit", timeZoneName: "short" } as const
  return format("exact", options, zone)
    .format(millis(at))
    .replace(/^(\w+),/, "$1")
}

/** `2026-11-28T09:02:11.123Z` */
export const utc = (at: At): string => new Date(millis(at)).toISOString()
