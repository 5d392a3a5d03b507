/** The endpoints of `Api/Sessions`. */
import { DateTime, Effect, Option } from "effect"
import { Caller } from "../Api/Access.js"
import { Forbidden } from "../ApiKeys.js"
import * as Rules from "../ApiKeys/Rules.js"
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
              const caller = yield* Caller
              // Whoever makes a session acts at Cal.com with it, and no further than by itself.
              const rules = Rules.within(caller, input)
              const refusal = !caller.scopes.has("proxy")
                ? Option.some(new Forbidden({ beyond: "proxy" }))
                : rules === undefined
                  ? Option.some(new Forbidden({ beyond: "session" }))
                  : Option.none()
              yield* Edge.permit(caller, refusal)
              const { expiresAt, session } = yield* sessions.create(userUlid, {
                ...input,
                ...rules,
                until: caller.expiresAt
              })
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
