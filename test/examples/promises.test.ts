/**
 * Tests of a program of your own that knows no Effect: Cal.com is the sandbox, on a port of this machine, and misbehaves when it
 * is told to. Vitest here; Jest and `node --test` do as well.
 */
import { afterAll, expect, test, vi } from "vitest"
import * as Actions from "cal-tokens/actions"
import { Fault, startSandbox } from "cal-tokens/sandbox"

// ---- the program under test ------------------------------------------------------------------------------------------

interface Booked {
  readonly data: { readonly uid: string; readonly status: string }
}

const makeCalendar = (actions: Actions.Actions) => ({
  /** Books half an hour with somebody. */
  book: async (userUlid: string, eventTypeId: number, start = "2030-01-15T10:00:00Z") => {
    const attendee = { name: "Eve", email: "eve@example.com", timeZone: "Europe/London" }
    const body = { start, eventTypeId, attendee }
    const booked = await actions.makeCalApiRequest<Booked>("/bookings", "POST", body, userUlid)
    return Actions.isFailure(booked) ? { problem: booked.code } : booked.data
  }
})

// ---- its tests -------------------------------------------------------------------------------------------------------

const grace = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const ada = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
const cem = "01BX5ZZKBKACTAV9WEVGEMMVS0"

const cal = await startSandbox()
const actions = Actions.make({ layer: cal.layer })
afterAll(() => cal.close())

const { book } = makeCalendar(actions)

test("a meeting is booked, although Cal.com has ended the token", async () => {
  const { eventTypeId } = await cal.connect(grace)
  await cal.expire(grace)
  expect(await book(grace, eventTypeId)).toMatchObject({ status: "accepted" })
  expect(cal.count("refresh")).toBe(1)
})

test("an outage is told as one", async () => {
  const { calUserId, eventTypeId } = await cal.connect(ada, { kind: "oauth2" })
  cal.inject(Fault.status(503, { kind: "api", calUserId, times: Infinity }))
  expect(await book(ada, eventTypeId)).toEqual({ problem: "CalUnavailable" })
  cal.clearFaults()
  expect(await book(ada, eventTypeId)).toMatchObject({ status: "accepted" })
})

test("who took the access back has to reconnect, and books again after that", async () => {
  const { eventTypeId } = await cal.connect(cem, { kind: "oauth2", email: "cem@example.com" })
  await cal.revoke(cem)
  await cal.expire(cem)
  expect(await book(cem, eventTypeId)).toEqual({ problem: "ReauthorizationRequired" })
  await cal.connect(cem, { kind: "oauth2", email: "cem@example.com" })
  expect(await book(cem, eventTypeId)).toMatchObject({ status: "accepted" })
})

test("a managed user whose tokens ended is given new ones, and has to reconnect only once deleted", async () => {
  const { eventTypeId } = await cal.connect(grace)
  await cal.revoke(grace)
  await cal.expire(grace)
  expect(await book(grace, eventTypeId)).toMatchObject({ status: "accepted" })
  await cal.deleteUser(grace)
  expect(await book(grace, eventTypeId)).toEqual({ problem: "ReauthorizationRequired" })
  const again = await cal.connect(grace)
  expect(await book(grace, again.eventTypeId)).toMatchObject({ status: "accepted" })
})

test("a token that has run out by the clock is replaced before it is used", async () => {
  const { accessTokenExpiresAt } = await cal.connect(ada, { kind: "oauth2" })
  const before = await actions.ensureValidCalToken(ada)
  vi.useFakeTimers({ toFake: ["Date"] }) // the clock alone: what waits goes on waiting in real time
  try {
    vi.setSystemTime(accessTokenExpiresAt)
    const after = await actions.ensureValidCalToken(ada)
    expect(after).toMatchObject({ success: true })
    expect(after).not.toMatchObject(before)
  } finally {
    vi.useRealTimers()
  }
})

test("a token that Cal.com has ended early is known to be dead when a request is refused", async () => {
  const { eventTypeId } = await cal.connect(ada, { kind: "oauth2" })
  const before = await actions.ensureValidCalToken(ada)
  await cal.expire(ada)
  expect(await actions.ensureValidCalToken(ada)).toEqual(before)
  expect(await book(ada, eventTypeId)).toMatchObject({ status: "accepted" })
  expect(await actions.ensureValidCalToken(ada)).not.toEqual(before)
})

test("an answer that was lost costs a managed user some seconds, and nothing else", async () => {
  const { calUserId, eventTypeId } = await cal.connect(grace)
  await cal.expire(grace)
  cal.inject(Fault.dropAfter({ kind: "refresh" }))
  expect(await book(grace, eventTypeId, "2030-01-16T10:00:00Z")).toMatchObject({ status: "accepted" })
  expect(cal.count("forceRefresh", calUserId)).toBe(1)
}, 20_000)
