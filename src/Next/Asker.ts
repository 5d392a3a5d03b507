/** Who asks, by the app's own session. */
import { Data, Effect } from "effect"
import * as Failure from "../Actions/Failure.js"
import * as ApiFailure from "../Api/Failure.js"
import * as Edge from "../Http/Edge.js"

/**
 * Tells who is signed in to the app: the ULID or UUID of one of your users, or nothing.
 *
 * @since 0.1.0
 * @category models
 */
export type User = (request: Request) => string | null | undefined | Promise<string | null | undefined>

export type Asker = Data.TaggedEnum<{
  Nobody: object
  Somebody: { readonly name: string }
  /** The app's function failed. */
  Unknown: { readonly reason: string }
}>
const Asker = Data.taggedEnum<Asker>()

/** In the caller's own asynchronous context, where the app's request store is. */
export const ask = async (user: User, request: Request): Promise<Asker> => {
  try {
    const name = (await user(request)) ?? undefined
    return name === undefined ? Asker.Nobody() : Asker.Somebody({ name })
  } catch (error) {
    return Asker.Unknown({ reason: Failure.describe(error) })
  }
}

const signedOut = ApiFailure.service("Unauthorized", "Nobody is signed in.")

export const userOf = Asker.$match({
  Nobody: () => Edge.decline(signedOut),
  Somebody: ({ name }) => Edge.refuseAll(Edge.user(name)),
  Unknown: ({ reason }) =>
    Effect.zipRight(
      Effect.logWarning(`user failed: ${reason}`),
      Edge.decline(ApiFailure.service("Unauthorized", Failure.unauthorized.error))
    )
})

export const isNobody = Asker.$is("Nobody")
