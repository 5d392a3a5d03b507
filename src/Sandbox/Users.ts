/** Cal.com users: how managed ones are named and stored, and how both kinds look on the wire. */
import { Schema, Struct } from "effect"
import { organizationId, ownerId } from "./Clients.js"
import { type User } from "./Store.js"
import { type World } from "./World.js"

const optionalString = Schema.optional(Schema.String)

const Profile = Schema.Struct({
  email: Schema.String,
  name: Schema.String,
  timeZone: optionalString,
  timeFormat: Schema.optional(Schema.Number),
  weekStart: optionalString,
  locale: optionalString,
  bio: optionalString,
  avatarUrl: optionalString,
  metadata: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown }))
})

/** What a caller may say about a user; everything has a default of Cal.com's. */
export type Profile = typeof Profile.Type

/** What a caller may change of a user. */
const ProfileChange = Schema.partial(Profile)
export type ProfileChange = typeof ProfileChange.Type

/** A body that passed `Validation.createUser` and was reduced to its properties. */
export const toProfile: (body: unknown) => Profile = Schema.decodeUnknownSync(Profile)

/** A body that passed `Validation.updateUser` and was reduced to its properties. */
export const toProfileChange: (body: unknown) => ProfileChange = Schema.decodeUnknownSync(ProfileChange)

/** `ada@example.com` is stored as `ada+<clientId>@example.com`, so that one person may be a user of several clients. */
export const managedEmail = (email: string, clientId: string): string => {
  const at = email.lastIndexOf("@")
  const suffix = `+${clientId}`
  return email.slice(0, at).endsWith(suffix) ? email : `${email.slice(0, at)}${suffix}${email.slice(at)}`
}

export const create = (world: World, profile: Profile, managedBy: string | null, now: number): User => {
  const id = world.store.nextId()
  const defaultScheduleId = managedBy !== null && profile.timeZone === undefined ? null : world.store.nextId()
  return world.store.putUser(toUser(id, profile, managedBy, defaultScheduleId, now))
}

/** The users of a platform client, or those with an account of their own; not the admin. */
export const people = (world: World, managedBy: string | null): ReadonlyArray<User> =>
  [...world.store.users.values()].filter((user) => user.managedBy === managedBy && user.id !== ownerId)

/**
 * Whoever is named by Cal.com's number, or by the address that they were made with, which a managed user has with the
 * client's id in it; never the admin.
 */
export const find = ({ clients, store }: World, name: number | string): User | undefined => {
  const addresses = (email: string) => [
    email,
    ...[...clients.managed.keys()].map((clientId) => managedEmail(email, clientId))
  ]
  const found =
    typeof name === "number" || /^\d+$/.test(name)
      ? store.users.get(Number(name))
      : addresses(name)
          .map(store.userByEmail)
          .find((user) => user !== undefined)
  return found?.id === ownerId ? undefined : found
}

/** Who somebody may be whom nobody has met here. */
export const somebodyNew = (world: World, managedBy: string | null): Profile => {
  for (let visitor = 0; ; visitor++) {
    const name = ["Ada Lovelace", "Grace Hopper", "Edith Clarke", "Mary Jackson"][visitor] ?? `Visitor ${visitor + 1}`
    const email = `${name.toLowerCase().replace(" ", ".")}@example.com`
    if (world.store.userByEmail(managedBy === null ? email : managedEmail(email, managedBy)) === undefined) {
      return { name, email }
    }
  }
}

/** The admin who owns the platform clients; exists from the start. */
export const seedOwner = (world: World, now: number): void => {
  if (world.store.users.has(ownerId)) return
  world.store.putUser(toUser(ownerId, { email: "owner@sandbox.example", name: "Platform Owner" }, null, null, now))
}

const toUser = (
  id: number,
  profile: Profile,
  managedBy: string | null,
  defaultScheduleId: number | null,
  now: number
): User => {
  const email = managedBy === null ? profile.email : managedEmail(profile.email, managedBy)
  return {
    id,
    email,
    username: username(email),
    name: profile.name,
    bio: profile.bio ?? null,
    timeZone: profile.timeZone ?? "Europe/London",
    weekStart: profile.weekStart ?? "Sunday",
    createdAt: now,
    timeFormat: profile.timeFormat ?? 12,
    defaultScheduleId,
    locale: profile.locale ?? "en",
    avatarUrl: profile.avatarUrl ?? null,
    metadata: profile.metadata ?? {},
    managedBy
  }
}

/** Changes what the profile names; a new email of a managed user is suffixed and renames the user. */
export const update = (world: World, user: User, profile: ProfileChange): User => {
  const { email, ...rest } = profile
  const known = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))
  const stored =
    email === undefined ? user.email : user.managedBy === null ? email : managedEmail(email, user.managedBy)
  return world.store.putUser({
    ...user,
    ...known,
    email: stored,
    username: stored === user.email ? user.username : username(stored)
  })
}

export const toManagedUser = (user: User) => ({
  ...Struct.omit(user, "createdAt", "managedBy"),
  createdDate: new Date(user.createdAt).toISOString()
})

export const toMe = (user: User) => ({
  id: user.id,
  username: user.username,
  email: user.email,
  name: user.name,
  avatarUrl: user.avatarUrl,
  bio: user.bio,
  timeFormat: user.timeFormat,
  defaultScheduleId: user.defaultScheduleId,
  weekStart: user.weekStart,
  timeZone: user.timeZone,
  organizationId: user.managedBy === null ? null : organizationId,
  ...(user.managedBy === null ? {} : { organization: { id: organizationId, isPlatform: true } })
})

/** `ada+client@example.co.uk` becomes `ada-client-example-co-uk`. */
const username = (email: string) =>
  email
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
