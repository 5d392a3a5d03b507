/** The endpoints of `Api/Sessions`. */
import { HttpApiBuilder } from "@effect/platform"
import { DateTime, Effect } from "effect"
import { Api } from "../Api.js"
import { Caller } from "../Api/Access.js"
import { CreateSession } from "../Api/Sessions.js"
import { Sessions } from "../Sessions.js"
import { Forbidden } from "../TokenError.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "sessions", (handlers) =>
  Effect.map(Sessions, (sessions) =>
    handlers
      .handleRaw("createSession", () =>
        Effect.gen(function* () {
          yield* Edge.operation("createSession")
          // Whoever makes a session acts at Cal.com with it.
          if (!(yield* Caller).scopes.has("proxy")) return yield* new Forbidden({ scope: "proxy" })
          const { userUlid, ...options } = yield* Body.json(CreateSession)
          const { expiresAt, session } = yield* sessions.create(yield* Edge.user(userUlid), options)
          return { success: true as const, session, expiresAt: DateTime.unsafeMake(expiresAt) }
        }).pipe(Edge.refuseAll)
      )
      .handleRaw("deleteSessions", ({ path }) =>
        Effect.gen(function* () {
          yield* Edge.operation("deleteSessions")
          yield* sessions.endAll(yield* Edge.user(path.userUlid))
          return { success: true as const }
        }).pipe(Edge.refuseAll)
      )
  )
)
