import { AsyncLocalStorage } from "node:async_hooks"
import * as Actions from "cal-tokens/actions"

/** Who is signed in, for the time of a request. */
export const session = new AsyncLocalStorage<{ readonly userUlid: string }>()

export const cal = Actions.make({
  authorize: (userUlid) => userUlid === session.getStore()?.userUlid,
  revalidate: (paths, userUlid) => console.log(`${userUlid} has new tokens, for ${paths.join(" ")}`),
  revalidatePaths: ["/calendar"]
})
