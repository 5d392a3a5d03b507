/**
 * Tests of a program of your own that knows no Effect: Cal.com is the sandbox, on a port of this machine, and misbehaves when it
 * is told to. Vitest here; Jest and `node --test` do as well.
 */
import { afterAll, beforeAll, expect, test } from "vitest"
import * as Actions from "cal-tokens/actions"
import { Fault, type LocalSandbox, startSandbox } from "cal-tokens/sandbox"

// ---- the program under test ------------------------------------------------------------------------------------------

interface Booked {
  readonly data: { readonly uid: string; readonly status: string }
}

const makeCalendar = (actions: Actions.Actions) => ({
  /** Books half an hour with somebody. */
  book: async (userUlid: string, eventTypeId: number) => {
    const attendee = { name: "Eve", email: "eve@example.com", timeZone: "Europe/London" }
    const body = { start: "2030-01-15T10:00:00Z", eventTypeId, attendee }
    const booked = await actions.makeCalApiRequest<Booked>("/bookings", "POST", body, userUlid)
    return Actions.isFailure(booked) ? { problem: booked.code } : booked.data
  }
})

// ---- its tests -------------------------------------------------------------------------------------------------------

const grace = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const ada = "01BX5ZZKBKACTAV9WEVGEMMVRZ"

let cal: LocalSandbox
let actions: Actions.Actions
let calendar: ReturnType<typeof makeCalendar>

beforeAll(async () => {
  cal = await startSandbox()
  actions = Actions.make({ layer: cal.layer })
  calendar = makeCalendar(actions)
})

afterAll(async () => {
  await actions.dispose()
  await cal.close()
})

test("a meeting is booked, although Cal.com has ended the token", async () => {
  const { calUserId, eventTypeId } = await cal.connect(grace)
  await cal.expire(grace)
  expect(await calendar.book(grace, eventTypeId)).toMatchObject({ status: "accepted" })
  expect(cal.count("refresh", calUserId)).toBe(1)
})

test("an outage is told as one", async () => {
  const { calUserId, eventTypeId } = await cal.connect(ada, { kind: "oauth2" })
  cal.inject(Fault.status(503, { kind: "api", calUserId, times: Infinity }))
  expect(await calendar.book(ada, eventTypeId)).toEqual({ problem: "CalUnavailable" })
  cal.clearFaults()
  expect(await calendar.book(ada, eventTypeId)).toMatchObject({ status: "accepted" })
})

test("who took the access back has to reconnect", async () => {
  await cal.connect(ada, { kind: "oauth2" })
  await cal.revoke(ada)
  expect(await actions.refreshUserCalTokens(ada, true)).toMatchObject({ code: "ReauthorizationRequired" })
})
