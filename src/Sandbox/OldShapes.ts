/**
 * What the first API version says of event types and schedules; whoever sends no `cal-api-version` gets these without an
 * error. Facts: the controllers and outputs of version 2024-04-15 in Cal.com API v2.
 */
import { type User } from "./Store.js"

/** What both versions know of an event type. */
interface EventType {
  readonly id: number
  readonly lengthInMinutes: number
  readonly title: string
  readonly slug: string
  readonly description: string
  readonly hidden: boolean
}

/** In groups, one for the person and one for each team. */
export const eventTypes = (user: User, types: ReadonlyArray<EventType>) => {
  const profile = { slug: user.username, name: user.name, image: user.avatarUrl }
  const metadata = { membershipCount: 1, readOnly: false }
  return {
    eventTypeGroups: [
      {
        teamId: null,
        membershipRole: null,
        profile,
        metadata,
        eventTypes: types.map((type) => eventType(user, type))
      }
    ],
    profiles: [{ ...profile, ...metadata, teamId: null, membershipRole: null }]
  }
}

export const eventType = (user: User, { description, hidden, id, lengthInMinutes, slug, title }: EventType) => ({
  id,
  length: lengthInMinutes,
  slug,
  title,
  description,
  hidden,
  locations: null,
  userId: user.id,
  teamId: null,
  eventName: null,
  timeZone: null,
  requiresConfirmation: false,
  recurringEvent: null,
  schedulingType: null,
  minimumBookingNotice: 120,
  beforeEventBuffer: 0,
  afterEventBuffer: 0,
  price: 0,
  currency: "usd",
  slotInterval: null,
  metadata: {}
})

const weekdays = [1, 2, 3, 4, 5]
/** Hours of the day: in minutes here, and as instants of 1970-01-01 there. */
const [from, to] = [9, 17]
const instant = (hour: number) => new Date(hour * 3_600_000).toISOString()

export const schedules = (user: User) =>
  user.defaultScheduleId === null
    ? []
    : [
        {
          id: user.defaultScheduleId,
          name: "Default schedule",
          isManaged: false,
          workingHours: [{ days: weekdays, startTime: from * 60, endTime: to * 60 }],
          schedule: [
            {
              id: user.defaultScheduleId,
              userId: user.id,
              eventTypeId: null,
              days: weekdays,
              startTime: instant(from),
              endTime: instant(to),
              date: null,
              scheduleId: user.defaultScheduleId
            }
          ],
          availability: [0, 1, 2, 3, 4, 5, 6].map((day) =>
            weekdays.includes(day) ? [{ start: instant(from), end: instant(to) }] : []
          ),
          timeZone: user.timeZone,
          dateOverrides: [],
          isDefault: true,
          isLastSchedule: true,
          readOnly: false
        }
      ]
