/** What every part of the simulator shares: its clients, its database, and the one request that is being answered. */
import { type Headers } from "@effect/platform"
import { Context } from "effect"
import { type Clients } from "./Clients.js"
import { type Store } from "./Store.js"
import { type Switches } from "./Switches.js"

export interface World {
  readonly clients: Clients
  readonly store: Store
  /** Replaces the lifetime of both kinds of access token; absent: Cal.com's own. */
  readonly accessTokenLifetimeMillis: number | undefined
}

/** A parsed request. `now` is Cal.com's time, which `Switches.clockSkewMillis` can move away from Effect's clock. */
export interface Incoming {
  readonly world: World
  readonly method: string
  /** Path and query, without the `/api` prefix that Cal.com's edge removes. */
  readonly url: string
  readonly path: string
  readonly query: URLSearchParams
  readonly headers: Headers.Headers
  readonly body: Body
  readonly address: string
  readonly requestId: string
  readonly now: number
  readonly switches: Switches
  /** Milliseconds between check and rotation, if this request is to race. */
  readonly raceWindow: number
  /** Filled in while the request is answered, for the list of calls. */
  readonly note: Note
}

/** JSON and forms are parsed before any handler runs; only the OAuth2 token endpoint reads forms. */
export type Body =
  | { readonly _tag: "None" }
  | { readonly _tag: "Json"; readonly value: unknown }
  | { readonly _tag: "Form"; readonly value: Readonly<Record<string, string | ReadonlyArray<string>>> }
  | { readonly _tag: "Malformed"; readonly message: string }

export interface Note {
  calUserId?: number | undefined
  issuedRefreshTokenHash?: string | undefined
}

export class Request extends Context.Tag("cal-tokens/Sandbox/Request")<Request, Incoming>() {}

/** Cal.com removes the word `Bearer ` where it finds it, case-sensitively, and takes what is left. */
export const bearerOf = (headers: Headers.Headers): string | undefined => headers.authorization?.replace("Bearer ", "")

/** The JSON object that a platform endpoint sees: a form or no body counts as an empty one. */
export const jsonObject = (request: Incoming): Readonly<Record<string, unknown>> =>
  request.body._tag === "Json" && isRecord(request.body.value) ? request.body.value : {}

export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)
