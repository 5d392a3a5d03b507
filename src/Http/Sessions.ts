/** The endpoints of `Api/Sessions`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { Caller } from "../Api/Access.js"
import { CreateSession } from "../Api/Sessions.js"
import { Sessions } from "../Sessions.js"
import { Forbidden } from "../TokenError.js"
import * as Audit from "./Audit.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "sessions", (handlers) =>
  Effect.map(Sessions, (sessions) =>
    handlers
      .handleRaw("createSession", () =>
        Effect.gen(function* () {
          yield* Edge.operation("createSession")
          const { name: key, scopes } = yield* Caller
          // Whoever makes a session acts at Cal.com with it.
          if (!scopes.has("proxy")) {
            yield* (yield* Audit.Audit).refused("key.forbidden", { key, route: "/api/cal/sessions" })
            return yield* new Forbidden({ scope: "proxy" })
          }
          const input = yield* Body.json(CreateSession, ["methods", "paths"])
          const userUlid = yield* Edge.user(input.userUlid)
          const { expiresAt, session } = yield* sessions.create(userUlid, input)
          yield* Audit.audit("session.created", userUlid)
          return { success: true as const, session, expiresAt: DateTime.unsafeMake(expiresAt) }
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("deleteSessions", ({ path }) =>
        Effect.gen(function* () {
          yield* Edge.operation("deleteSessions")
          const userUlid = yield* Edge.user(path.userUlid)
          yield* Audit.changing(userUlid, sessions.endAll(userUlid), () => "sessions.ended")
          return { success: true as const }
        }).pipe(Edge.refuseAll)
      )
  )
)
