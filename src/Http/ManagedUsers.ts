/** The endpoint of `Api/ManagedUsers`. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { Api } from "../Api.js"
import { CreateManagedUser } from "../Api/ManagedUsers.js"
import type { OnStored } from "../CalTokens.js"
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
        const create = (onStored: OnStored) => managedUsers.create(userUlid, user, { clientId, onStored })
        const { calUserId } = yield* Audit.connecting(userUlid, create)
        return { success: true as const, calUserId }
      }).pipe(Edge.refuseAll)
    )
  )
)
