/** The endpoint of `Api/ManagedUsers`. */
import { HttpApiBuilder } from "@effect/platform"
import { Effect } from "effect"
import { Api } from "../Api.js"
import type { OnStored } from "../CalTokens.js"
import { ManagedUsers } from "../ManagedUsers.js"
import * as Audit from "./Audit.js"
import * as Edge from "./Edge.js"

export const layer = HttpApiBuilder.group(Api, "managedUsers", (handlers) =>
  Effect.map(ManagedUsers, (managedUsers) =>
    handlers.handleRaw(
      "createManagedUser",
      Edge.endpoint("createManagedUser", ({ clientId, userUlid: _, ...user }, userUlid) => {
        const create = (onStored: OnStored) => managedUsers.create(userUlid, user, { clientId, onStored })
        return Effect.map(Audit.connecting(userUlid, create), ({ calUserId }) => ({
          success: true as const,
          calUserId
        }))
      })
    )
  )
)
