// lib/cal.ts: what pages and server actions use
import "server-only"
import * as Actions from "cal-tokens/actions"
import { revalidating } from "cal-tokens/next"
import { revalidatePath } from "next/cache"
import { after } from "next/server"
import { currentUser } from "./session"

export const cal = Actions.make({
  authorize: async (userUlid) => (await currentUser()) === userUlid,
  revalidate: revalidating({ after, revalidatePath }),
  revalidatePaths: ["/"]
})
