/**
 * The part of Cal.com that a user's token opens: profile, event types, schedules, calendars (bookings stand beside), with
 * the version of each resource and the order of its guards. Facts: the controllers of these names in Cal.com API v2.
 */
import { Effect } from "effect"
import { allow, authenticate, authenticateOptional, guarded, guardedLate } from "./Auth.js"
import { notFound, success } from "./Errors.js"
import * as Old from "./OldShapes.js"
import { intParam, route, version, type Params } from "./Route.js"
import { type User } from "./Store.js"
import * as Users from "./Users.js"
import * as Validation from "./Validation.js"
import { bearerOf, type Incoming } from "./World.js"

const eventTypeVersions = ["2024-06-14", "2024-04-15", "2024-06-11"] as const

const getMe = (request: Incoming) =>
  Effect.map(guarded(request, "PROFILE_READ"), ({ user }) => success(Users.toMe(user)))

const patchMe = (request: Incoming) =>
  Effect.gen(function* () {
    const { user } = yield* guarded(request, "PROFILE_WRITE")
    const change = Users.toProfileChange(yield* Validation.body(request, Validation.updateUser))
    return success(Users.toMe(Users.update(request.world, user, change)))
  })

const listEventTypes = (request: Incoming) =>
  Effect.gen(function* () {
    const served = yield* version(request, eventTypeVersions)
    if (served !== "2024-06-14") {
      const { user } = yield* guardedLate(request, "EVENT_TYPE_READ")
      return success(Old.eventTypes(user, eventTypesOf(user)))
    }
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
    const served = yield* version(request, eventTypeVersions)
    const { user } = yield* guardedLate(request, "EVENT_TYPE_READ")
    const id = yield* intParam(params, "id")
    const type = eventTypesOf(user).find((candidate) => candidate.id === id)
    if (type === undefined) return yield* Effect.fail(notFound(`Event type with id ${id} not found`))
    return success(served === "2024-06-14" ? type : { eventType: Old.eventType(user, type) })
  })

const listSchedules = (request: Incoming) =>
  Effect.gen(function* () {
    const served = yield* version(request, ["2024-06-11", "2024-06-14", "2024-04-15"])
    const { user } = yield* guarded(request, "SCHEDULE_READ")
    return success(served === "2024-04-15" ? Old.schedules(user) : schedulesOf(user))
  })

/** No scope opens this one to an OAuth2 token. */
const saveIcsFeed = (request: Incoming) =>
  Effect.gen(function* () {
    const principal = yield* authenticate(request)
    yield* allow(request, principal, undefined)
    yield* Validation.body(request, { urls: { required: true, rules: [Validation.isList] } })
    const id = request.world.store.nextId()
    const feed = { type: "ics-feed_calendar", teamId: null, appId: "ics-feed", invalid: false }
    return success({ id, userId: principal.user.id, ...feed }, 201)
  })

/** Where a browser connects an app of somebody else's: the state is the token that this was asked with. */
const connectApp = (host: string, state: (token: string) => string) => (request: Incoming) =>
  Effect.map(authenticate(request), () => {
    const query = new URLSearchParams({ state: state(bearerOf(request.headers) ?? "") })
    return success({ authUrl: `https://${host}/authorize?${query.toString()}` })
  })

/** Every user has one event type, whose id tells its owner. */
export const eventTypeIdOf = (user: User): number => user.id * 10 + 1

export const eventTypesOf = (user: User) => [
  {
    id: eventTypeIdOf(user),
    ownerId: user.id,
    lengthInMinutes: 30,
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

export const routes = [
  route("GET", "/v2/me", getMe),
  route("PATCH", "/v2/me", patchMe),
  route("GET", "/v2/event-types", listEventTypes),
  route("GET", "/v2/event-types/:id", getEventType),
  route("GET", "/v2/schedules", listSchedules),
  route("POST", "/v2/calendars/ics-feed/save", saveIcsFeed),
  route(
    "GET",
    "/v2/calendars/:calendar/connect",
    connectApp("calendar.example", (accessToken) => `accessToken=${accessToken}&origin=https://api.cal.com&redir=`)
  ),
  route(
    "GET",
    "/v2/stripe/connect",
    connectApp("stripe.example", (accessToken) => JSON.stringify({ fromApp: false, accessToken }))
  ),
  route(
    "GET",
    "/v2/conferencing/:app/oauth/auth-url",
    connectApp("zoom.example", (accessToken) => JSON.stringify({ fromApp: false, accessToken }))
  )
]
