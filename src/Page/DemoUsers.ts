/** The people of the demo, by their names. In a real service there are none. */
import { useEffect } from "preact/hooks"
import * as Client from "./Client.js"
import type { DemoUser } from "./Play.js"
import * as Session from "./Session.js"
import * as Store from "./Store.js"

const users = Store.make<ReadonlyArray<DemoUser>>([])

let asked: string | undefined

/** None until they are known. */
export const useUsers = (): ReadonlyArray<DemoUser> => {
  const sandbox = Session.useOpen()?.sandbox
  useEffect(() => {
    if (sandbox === undefined || asked === sandbox) return
    asked = sandbox
    Client.request<{ users: ReadonlyArray<DemoUser> }>(`${sandbox}/_demo`).then(
      (answer) => users.set(answer.users),
      () => (asked = undefined)
    )
  }, [sandbox])
  return Store.useStore(users)
}

export const useName = (userUlid: string): string | undefined =>
  useUsers().find((user) => user.userUlid === userUlid)?.name
