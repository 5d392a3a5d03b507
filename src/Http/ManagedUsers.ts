/** The endpoint of `Api/ManagedUsers`. */
import { Effect, Struct } from "effect"
import type { OnStored } from "../CalTokens.js"
import { ManagedUsers } from "../ManagedUsers.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"

export const layer = Group.make("managedUsers", (handlers) =>
  Effect.map(ManagedUsers, (managedUsers) =>
    handlers.handleRaw(
      "createManagedUser",
      Edge.endpoint("createManagedUser", ({ clientId, ...input }, userUlid) => {
        const user = Struct.omit(input, "userUlid")
        const create = (onStored: OnStored) => managedUsers.create(userUlid, user, { clientId, onStored })
        return Effect.map(Audit.connecting(userUlid, create), ({ calUserId }) => ({
          success: true as const,
          calUserId
        }))
      })
    )
  )
)
