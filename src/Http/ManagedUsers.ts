/** The endpoint of `Api/ManagedUsers`. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { Api } from "../Api.js"
import { CreateManagedUser } from "../Api/ManagedUsers.js"
import { ManagedUsers } from "../ManagedUsers.js"
import * as Audit from "./Audit.js"
import * as Body from "./Body.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "managedUsers", (handlers) =>
  Effect.map(ManagedUsers, (managedUsers) =>
    handlers.handleRaw("createManagedUser", () =>
      Effect.gen(function* () {
        yield* Edge.operation("createManagedUser")
        const { clientId, userUlid: input, ...user } = yield* Body.json(CreateManagedUser)
        const userUlid = yield* Edge.user(input)
        const { calUserId } = yield* Audit.changing(
          userUlid,
          managedUsers.create(userUlid, user, { clientId }),
          // Who was connected before is answered, and nothing has changed.
          ({ origin }, existed) => (origin === "connected" ? undefined : Audit.connected(existed))
        )
        return { success: true as const, calUserId }
      }).pipe(Edge.refuseAll)
    )
  )
)
