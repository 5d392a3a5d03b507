import { describe, expect, it } from "@effect/vitest"
import * as Format from "../../src/Page/Format.js"

const berlin = "Europe/Berlin"
const now = Date.parse("2026-11-28T09:02:11.000Z")
const second = 1_000
const minute = 60 * second
const hour = 60 * minute
const day = 24 * hour

describe("numbers for people", () => {
  it("groups counts, and rounds estimates to what they are good for", () => {
    expect(Format.count(98_412)).toBe("98,412")
    expect(Format.users(98_412, false)).toBe("98,412")
    expect(Format.users(98_412, true)).toBe("about 98,000")
    expect(Format.users(1_234_567, true)).toBe("about 1,235,000")
    expect(Format.users(9_449, true)).toBe("about 9,400")
    expect(Format.counted(1, "person has", "people have")).toBe("1 person has")
    expect(Format.counted(1_037, "person has", "people have")).toBe("1,037 people have")
  })

  it.each([
    [0, "0 ms"],
    [189.6, "190 ms"],
    [999.4, "999 ms"],
    [999.5, "1.00 s"],
    [1_240, "1.24 s"],
    [9_994, "9.99 s"],
    [9_996, "10.0 s"],
    [59_949, "59.9 s"],
    [59_951, "1 min"],
    [125_000, "2 min 5 s"]
  ])("tells that something took %d ms as %s", (ms, text) => expect(Format.took(ms)).toBe(text))

  it.each([
    [-5, "0 s"],
    [34_900, "34 s"],
    [minute, "1 min"],
    [59 * minute + 59 * second, "59 min"],
    [2 * hour, "2 h"],
    [2 * hour + 5 * minute, "2 h 5 min"],
    [day, "24 h"],
    [2 * day - 1, "47 h 59 min"],
    [3 * day + hour, "3 days"]
  ])("tells that something lasts %d ms as %s", (ms, text) => expect(Format.duration(ms)).toBe(text))
})

describe("instants for people", () => {
  it.each([
    [0, "now"],
    [-999, "now"],
    [34 * second, "in 34 s"],
    [4 * minute, "in 4 min"],
    [-4 * minute, "4 min ago"],
    [3 * hour, "in 3 h"],
    // Ten in the morning in Berlin: six hours ago is four o'clock, ten and a half hours ago is yesterday.
    [-6 * hour, "6 h ago"],
    [-10.5 * hour, "yesterday 23:32"],
    [-2 * day, "26 Nov 10:02"],
    [13.99 * hour, "tomorrow 00:01"]
  ])("tells %d ms from now as %s", (off, text) => expect(Format.relative(now + off, now, berlin)).toBe(text))

  it("knows the day by the calendar of the zone, not by 24 hours", () => {
    const late = Date.parse("2026-11-27T23:30:00Z")
    expect(Format.since(late, now, berlin)).toBe("since 00:30")
    expect(Format.since(late, now, "UTC")).toBe("since yesterday 23:30")
    expect(Format.since(late, now, "Pacific/Kiritimati")).toBe("since 13:30")
    expect(Format.since("2026-11-12T09:02:00Z", now, berlin)).toBe("since 12 Nov 10:02")
    expect(Format.since("2025-11-12T09:02:00Z", now, berlin)).toBe("since 12 Nov 2025 10:02")
    expect(Format.dayName(now + day, now, berlin)).toBe("tomorrow")
  })

  it("finds the day before on days of 23 and 25 hours", () => {
    // 29 March 2026 has 23 hours in Berlin, 25 October has 25.
    const spring = Date.parse("2026-03-30T00:30:00+02:00")
    expect(Format.point("2026-03-29T00:10:00+01:00", spring, berlin)).toBe("yesterday 00:10")
    expect(Format.point("2026-03-28T23:50:00+01:00", spring, berlin)).toBe("28 Mar 23:50")
    const autumn = Date.parse("2026-10-26T00:10:00+01:00")
    expect(Format.point("2026-10-25T00:10:00+02:00", autumn, berlin)).toBe("yesterday 00:10")
    expect(Format.point("2026-10-24T23:50:00+02:00", autumn, berlin)).toBe("24 Oct 23:50")
    // Both are half past two, and one hour apart.
    expect(Format.clock("2026-10-25T02:30:00+02:00", berlin)).toBe("02:30")
    expect(Format.clock("2026-10-25T02:30:00+01:00", berlin)).toBe("02:30")
    expect(Format.exact("2026-10-25T02:30:00+02:00", berlin)).toBe("Sun 25 Oct 2026, 02:30:00 CEST")
    expect(Format.exact("2026-10-25T02:30:00+01:00", berlin)).toBe("Sun 25 Oct 2026, 02:30:00 CET")
  })

  it("tells the exact instant in local time and in UTC", () => {
    const at = "2026-11-28T09:02:11.123Z"
    expect(Format.exact(at, berlin)).toBe("Sat 28 Nov 2026, 10:02:11 CET")
    expect(Format.exact(at, "America/New_York")).toBe("Sat 28 Nov 2026, 04:02:11 GMT-5")
    expect(Format.clockWithSeconds(at, berlin)).toBe("10:02:11")
    expect(Format.clock("2026-11-27T23:00:00Z", berlin)).toBe("00:00")
    expect(Format.utc(now)).toBe("2026-11-28T09:02:11.000Z")
  })
})
