/** The endpoints of `Api/Sessions`. */
import { DateTime, Effect } from "effect"
import { Caller } from "../Api/Access.js"
import { Forbidden } from "../ApiKeys.js"
import { Sessions } from "../Sessions.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

export const layer = Group.make("sessions", (handlers) =>
  Effect.map(Sessions, (sessions) =>
    handlers
      .handleRaw(
        "createSession",
        Edge.endpoint(
          "createSession",
          (input, userUlid) =>
            Effect.gen(function* () {
              const { name: key, scopes } = yield* Caller
              // Whoever makes a session acts at Cal.com with it.
              if (!scopes.has("proxy")) {
                yield* (yield* Audit.Audit).refused("key.forbidden", { key, route: "/api/cal/sessions" })
                return yield* new Forbidden({ scope: "proxy" })
              }
              const { expiresAt, session } = yield* sessions.create(userUlid, input)
              yield* Audit.audit("session.created", userUlid)
              return { success: true as const, session, expiresAt: DateTime.unsafeMake(expiresAt) }
            }),
          { broadest: ["methods", "paths"] }
        )
      )
      .handleRaw(
        "deleteSessions",
        Edge.endpoint("deleteSessions", (_, userUlid) =>
          Effect.as(
            Audit.changing(userUlid, sessions.endAll(userUlid), () => "sessions.ended"),
            { success: true as const }
          )
        )
      )
  )
)
