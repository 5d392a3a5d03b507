/** `/_control`: for a person with curl. Not part of Cal.com; neither throttled nor recorded, and free of tokens. */
import { HttpRouter } from "@effect/platform"
import { Effect } from "effect"
import { ownerId } from "./Clients.js"
import { json } from "./Errors.js"
import { type World } from "./World.js"

export const prefix = "/_control"

export interface Controls {
  readonly world: World
  /** Cal.com's time. */
  readonly now: Effect.Effect<number>
  readonly expireAccessTokens: (calUserId: number) => Effect.Effect<void>
}

export const make = ({ expireAccessTokens, now, world: { clients, store } }: Controls) =>
  HttpRouter.empty.pipe(
    HttpRouter.post(
      "/_control/users/:calUserId/expire",
      Effect.flatMap(HttpRouter.RouteContext, ({ params }) => {
        const calUserId = Number(params.calUserId)
        return store.users.has(calUserId)
          ? Effect.as(expireAccessTokens(calUserId), json(200, { status: "success", calUserId }))
          : Effect.succeed(json(404, { status: "error", message: "This sandbox has no such Cal.com user." }))
      })
    ),
    HttpRouter.get(
      "/_control/state",
      Effect.map(now, (now) =>
        json(200, {
          now: new Date(now).toISOString(),
          clients: { managed: [...clients.managed.keys()], oauth2: [...clients.oauth2.keys()] },
          users: [...store.users.values()]
            .filter((user) => user.id !== ownerId)
            .map((user) => {
              const access = [...store.access.ofUser(user.id), ...store.stateless.ofUser(user.id)]
              const live = access.filter((row) => now < row.expiresAt && !store.revoked.has(row.token))
              return {
                calUserId: user.id,
                kind: user.managedBy === null ? "oauth2" : "managed",
                email: user.email,
                name: user.name,
                accessTokens: { live: live.length, expired: access.length - live.length },
                accessTokenExpiresAt: instant(Math.max(...live.map((row) => row.expiresAt))),
                refreshTokens: store.refresh.ofUser(user.id).length + store.grants.ofUser(user.id).length
              }
            })
        })
      )
    ),
    HttpRouter.all(
      "*",
      Effect.succeed(
        json(404, { status: "error", message: "GET /_control/state or POST /_control/users/{calUserId}/expire" })
      )
    )
  )

const instant = (millis: number) => (Number.isFinite(millis) ? new Date(millis).toISOString() : null)
