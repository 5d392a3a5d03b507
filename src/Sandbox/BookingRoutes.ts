/** Bookings: the host's list, and what everybody may do. Facts: the bookings controllers of Cal.com API v2. */
import { randomUUID } from "node:crypto"
import { Effect, Option } from "effect"
import { eventTypesOf } from "./ApiRoutes.js"
import { allow, authenticateOptional, guardedLate } from "./Auth.js"
import { badRequest, invalid, json, notFound, success } from "./Errors.js"
import { param, route, version, type Params } from "./Route.js"
import { type Booking, type User } from "./Store.js"
import * as Validation from "./Validation.js"
import { isRecord, jsonObject, type Incoming } from "./World.js"

/** The one with the new shape first. */
const versions = ["2024-08-13", "2024-04-15", "2024-06-11", "2024-06-14"] as const

const minutes = 30

const endOf = (booking: Booking) => booking.start + minutes * 60_000

const listBookings = (request: Incoming) =>
  Effect.gen(function* () {
    const served = yield* version(request, versions)
    const { user } = yield* guardedLate(request, "BOOKING_READ")
    const all = request.world.store.bookings.filter((booking) => booking.userId === user.id)
    if (served !== "2024-08-13") {
      const bookings = all.map((booking) => ({ id: booking.id, uid: booking.uid, eventTypeId: booking.eventTypeId }))
      return success({ bookings, recurringInfo: [], totalCount: bookings.length, nextCursor: null })
    }
    const query = Object.fromEntries(request.query)
    const violations = Validation.check(query, bookingsQuery)
    if (violations.length > 0) return yield* Effect.fail(invalid(violations))
    const wanted = selected(all, query, request.now)
    const page = paginate(wanted.length, Number(query.skip ?? 0), Number(query.take ?? 100))
    const data = wanted.slice(page.from, page.from + page.pagination.returnedItems)
    return json(200, {
      status: "success",
      data: data.map((booking) => toBooking(booking, user)),
      pagination: page.pagination
    })
  })

/** Those that a query asks for, in its order. None here is recurring, cancelled or unconfirmed. */
const selected = (bookings: ReadonlyArray<Booking>, query: Readonly<Record<string, string>>, now: number) => {
  const { afterStart, beforeEnd, sortCreated, sortEnd, sortStart, status } = query
  const wanted = bookings.filter(
    (booking) =>
      (status === undefined || status.split(",").includes(endOf(booking) > now ? "upcoming" : "past")) &&
      (afterStart === undefined || booking.start >= Date.parse(afterStart)) &&
      (beforeEnd === undefined || endOf(booking) <= Date.parse(beforeEnd))
  )
  const direction = sortStart ?? sortEnd ?? sortCreated
  if (direction === undefined) return wanted
  const key = sortStart === undefined && sortEnd === undefined ? "createdAt" : "start"
  return wanted.sort((a, b) => (direction === "desc" ? b[key] - a[key] : a[key] - b[key]))
}

const createBooking = (request: Incoming) =>
  Effect.gen(function* () {
    yield* version(request, versions)
    const principal = yield* authenticateOptional(request)
    if (principal?._tag === "OAuth2") yield* allow(request, principal, "BOOKING_WRITE")
    const body = jsonObject(request)
    const attendee = isRecord(body.attendee) ? body.attendee : {}
    const violations = [
      ...Validation.check(body, {
        start: { required: true, rules: [isInstant] },
        eventTypeId: { required: true, rules: [isWholeNumber] }
      }),
      ...Validation.check(attendee, {
        name: { required: true, rules: [Validation.isString] },
        email: { required: true, rules: [Validation.isEmail] },
        timeZone: { required: true, rules: [Validation.isTimeZone] }
      })
    ]
    if (violations.length > 0) return yield* Effect.fail(invalid(violations))
    const host = ownerOf(request, Number(body.eventTypeId))
    if (host === undefined) {
      return yield* Effect.fail(notFound(`Event type with id ${String(body.eventTypeId)} not found.`))
    }
    const start = Date.parse(String(body.start))
    if (isTaken(request, host, start)) return yield* Effect.fail(badRequest(taken))
    const booking: Booking = {
      id: request.world.store.nextId(),
      uid: randomUUID().replaceAll("-", "").slice(0, 22),
      userId: host.id,
      eventTypeId: Number(body.eventTypeId),
      start,
      attendee: { name: String(attendee.name), email: String(attendee.email), timeZone: String(attendee.timeZone) },
      createdAt: request.now
    }
    request.world.store.bookings.push(booking)
    return success(toBooking(booking, host), 201)
  })

/** Whatever it is for: nobody is at two meetings. They may touch. */
const isTaken = ({ world }: Incoming, host: User, start: number): boolean =>
  world.store.bookings.some(
    (booking) => booking.userId === host.id && booking.start < start + minutes * 60_000 && start < endOf(booking)
  )

/** What API v2 makes of `no_available_users_found_error`: a 400, not a 409 (`handleBookingError` of its bookings, 2024-08-13). */
const taken = "User either already has booking at this time or is not available"

const getBooking = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    yield* version(request, versions)
    yield* authenticateOptional(request)
    const uid = param(params, "uid")
    const booking = request.world.store.bookings.find((candidate) => candidate.uid === uid)
    const host = booking && request.world.store.users.get(booking.userId)
    if (booking === undefined || host === undefined) {
      return yield* Effect.fail(notFound(`Booking with uid=${uid} was not found in the database`))
    }
    return success(toBooking(booking, host))
  })

const ownerOf = (request: Incoming, eventTypeId: number) => {
  const user = request.world.store.users.get(Math.floor(eventTypeId / 10))
  return Option.fromNullable(user).pipe(
    Option.filter((user) => eventTypesOf(user).some((type) => type.id === eventTypeId)),
    Option.getOrUndefined
  )
}

/** `skip` is clamped to what there is; an empty list is page 0 of 0. */
export const paginate = (totalItems: number, skip: number, take: number) => {
  const from = Math.min(skip, totalItems)
  const returnedItems = Math.min(take, totalItems - from)
  const totalPages = Math.ceil(totalItems / take)
  const currentPage = Math.min(Math.floor(from / take) + 1, totalPages)
  return {
    from,
    pagination: {
      totalItems,
      remainingItems: totalItems - from - returnedItems,
      returnedItems,
      itemsPerPage: take,
      currentPage,
      totalPages,
      hasNextPage: currentPage < totalPages,
      hasPreviousPage: currentPage > 1
    }
  }
}

const toBooking = (booking: Booking, host: User) => {
  const { email, name, timeZone } = booking.attendee
  return {
    id: booking.id,
    uid: booking.uid,
    title: `30 min meeting between ${host.name} and ${name}`,
    description: "",
    hosts: [
      {
        id: host.id,
        name: host.name,
        email: host.email,
        displayEmail: host.email.replace(`+${host.managedBy ?? ""}@`, "@"),
        username: host.username,
        timeZone: host.timeZone
      }
    ],
    status: "accepted",
    start: new Date(booking.start).toISOString(),
    end: new Date(endOf(booking)).toISOString(),
    duration: minutes,
    eventTypeId: booking.eventTypeId,
    eventType: { id: booking.eventTypeId, slug: "30min" },
    location: "integrations:daily",
    absentHost: false,
    createdAt: new Date(booking.createdAt).toISOString(),
    updatedAt: null,
    attendees: [{ name, email, displayEmail: email, timeZone, absent: false }],
    bookingFieldsResponses: { name, email },
    metadata: {}
  }
}

const isInstant: Validation.Rule = {
  name: "isDateString",
  text: (property) => `${property} must be a valid ISO 8601 date string`,
  accepts: (value) => typeof value === "string" && !Number.isNaN(Date.parse(value))
}

const isDirection = { rules: [Validation.isIn(["asc", "desc"])] }

const bookingsQuery: Readonly<Record<string, Validation.Field>> = {
  take: { rules: Validation.count(1, 250) },
  skip: { rules: Validation.count(0) },
  status: {
    rules: [Validation.isListOf(["upcoming", "recurring", "past", "cancelled", "unconfirmed"])]
  },
  afterStart: { rules: [isInstant] },
  beforeEnd: { rules: [isInstant] },
  sortStart: isDirection,
  sortEnd: isDirection,
  sortCreated: isDirection
}

const isWholeNumber: Validation.Rule = {
  name: "isInt",
  text: (property) => `${property} must be an integer number`,
  accepts: (value) => Number.isInteger(value)
}

export const routes = [
  route("GET", "/v2/bookings", listBookings),
  route("POST", "/v2/bookings", createBooking),
  route("GET", "/v2/bookings/:uid", getBooking)
]
