/**
 * The part of Cal.com that a user's token opens: profile, bookings, event types, schedules, with the version of each
 * resource and the order of its guards. Facts: the controllers of these names in Cal.com API v2.
 */
import { randomUUID } from "node:crypto"
import { Effect, Either, Option } from "effect"
import { allow, authenticate, authenticateOptional, permit, type Permission, type Principal } from "./Auth.js"
import { invalid, json, notFound, success, type Refusal } from "./Errors.js"
import { intParam, param, route, version, type Params } from "./Route.js"
import { type Booking, type User } from "./Store.js"
import * as Users from "./Users.js"
import * as Validation from "./Validation.js"
import { isRecord, jsonObject, type Incoming } from "./World.js"

/** The one with the new shape first. */
const bookingVersions = ["2024-08-13", "2024-04-15", "2024-06-11", "2024-06-14"] as const

/** Authentication first, as on `/me` and schedules. */
const guarded = (request: Incoming, permission: Permission): Either.Either<Principal, Refusal> =>
  Either.flatMap(authenticate(request), (principal) =>
    Either.map(allow(request, principal, permission), () => principal)
  )

/** The permission guard first, as on bookings and single event types. */
const guardedLate = (request: Incoming, permission: Permission): Either.Either<Principal, Refusal> =>
  Either.flatMap(permit(request, permission), () => guarded(request, permission))

const getMe = (request: Incoming) =>
  Effect.map(guarded(request, "PROFILE_READ"), ({ user }) => success(Users.toMe(user)))

const patchMe = (request: Incoming) =>
  Effect.gen(function* () {
    const { user } = yield* guarded(request, "PROFILE_WRITE")
    const body = jsonObject(request)
    const violations = Validation.check(body, Validation.updateUser)
    if (violations.length > 0) return yield* Effect.fail(invalid(violations))
    return success(
      Users.toMe(Users.update(request.world, user, Users.toProfileChange(Validation.pick(body, Validation.updateUser))))
    )
  })

const listBookings = (request: Incoming) =>
  Effect.gen(function* () {
    const served = yield* version(request, bookingVersions)
    const { user } = yield* guardedLate(request, "BOOKING_READ")
    const all = request.world.store.bookings.filter((booking) => booking.userId === user.id)
    if (served !== "2024-08-13") {
      const bookings = all.map((booking) => ({ id: booking.id, uid: booking.uid, eventTypeId: booking.eventTypeId }))
      return success({ bookings, recurringInfo: [], totalCount: bookings.length, nextCursor: null })
    }
    const query = Object.fromEntries(request.query)
    const violations = Validation.check(query, {
      take: { rules: [Validation.isCount(1, 250)] },
      skip: { rules: [Validation.isCount(0, Infinity)] }
    })
    if (violations.length > 0) return yield* Effect.fail(invalid(violations))
    const page = paginate(all.length, Number(query.skip ?? 0), Number(query.take ?? 100))
    const data = all.slice(page.from, page.from + page.pagination.returnedItems)
    return json(200, {
      status: "success",
      data: data.map((booking) => toBooking(booking, user)),
      pagination: page.pagination
    })
  })

const createBooking = (request: Incoming) =>
  Effect.gen(function* () {
    yield* version(request, bookingVersions)
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
    const booking: Booking = {
      id: request.world.store.nextId(),
      uid: randomUUID().replaceAll("-", "").slice(0, 22),
      userId: host.id,
      eventTypeId: Number(body.eventTypeId),
      start: Date.parse(String(body.start)),
      attendee: { name: String(attendee.name), email: String(attendee.email), timeZone: String(attendee.timeZone) },
      createdAt: request.now
    }
    request.world.store.bookings.push(booking)
    return success(toBooking(booking, host), 201)
  })

const getBooking = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    yield* version(request, bookingVersions)
    yield* authenticateOptional(request)
    const uid = param(params, "uid")
    const booking = request.world.store.bookings.find((candidate) => candidate.uid === uid)
    const host = booking && request.world.store.users.get(booking.userId)
    if (booking === undefined || host === undefined) {
      return yield* Effect.fail(notFound(`Booking with uid=${uid} was not found in the database`))
    }
    return success(toBooking(booking, host))
  })

const listEventTypes = (request: Incoming) =>
  Effect.gen(function* () {
    yield* version(request, ["2024-06-14", "2024-04-15", "2024-06-11"])
    const principal = yield* authenticateOptional(request)
    if (principal !== undefined) yield* allow(request, principal, "EVENT_TYPE_READ")
    const username = request.query.get("username")
    const slug = request.query.get("eventSlug")
    const owner =
      username === null
        ? principal?.user
        : [...request.world.store.users.values()].find((user) => user.username === username)
    return success(owner === undefined ? [] : eventTypesOf(owner).filter((type) => slug === null || type.slug === slug))
  })

const getEventType = (request: Incoming, params: Params) =>
  Effect.gen(function* () {
    yield* version(request, ["2024-06-14", "2024-04-15", "2024-06-11"])
    const { user } = yield* guardedLate(request, "EVENT_TYPE_READ")
    const id = yield* intParam(params, "id")
    const type = eventTypesOf(user).find((candidate) => candidate.id === id)
    if (type === undefined) return yield* Effect.fail(notFound(`Event type with id ${id} not found`))
    return success(type)
  })

const listSchedules = (request: Incoming) =>
  Effect.gen(function* () {
    yield* version(request, ["2024-06-11", "2024-06-14", "2024-04-15"])
    const { user } = yield* guarded(request, "SCHEDULE_READ")
    return success(schedulesOf(user))
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

const minutes = 30

/** Every user has one event type, whose id tells its owner. */
const eventTypesOf = (user: User) => [
  {
    id: user.id * 10 + 1,
    ownerId: user.id,
    lengthInMinutes: minutes,
    title: "30 min meeting",
    slug: "30min",
    description: "",
    hidden: false,
    users: [{ id: user.id, name: user.name, username: user.username }]
  }
]

const schedulesOf = (user: User) =>
  user.defaultScheduleId === null
    ? []
    : [
        {
          id: user.defaultScheduleId,
          ownerId: user.id,
          name: "Default schedule",
          timeZone: user.timeZone,
          isDefault: true,
          availability: [
            {
              days: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"],
              startTime: "09:00",
              endTime: "17:00"
            }
          ],
          overrides: []
        }
      ]

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
    end: new Date(booking.start + minutes * 60_000).toISOString(),
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

const isWholeNumber: Validation.Rule = {
  name: "isInt",
  text: (property) => `${property} must be an integer number`,
  accepts: (value) => Number.isInteger(value)
}

export const routes = [
  route("GET", "/v2/me", getMe),
  route("PATCH", "/v2/me", patchMe),
  route("GET", "/v2/bookings", listBookings),
  route("POST", "/v2/bookings", createBooking),
  route("GET", "/v2/bookings/:uid", getBooking),
  route("GET", "/v2/event-types", listEventTypes),
  route("GET", "/v2/event-types/:id", getEventType),
  route("GET", "/v2/schedules", listSchedules)
]
