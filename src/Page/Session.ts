/** Who looks at the page, as far as the service says. The cookie itself is out of a page's sight. */
import * as Client from "./Client.js"
import * as Store from "./Store.js"

export type State =
  | { readonly is: "asking" }
  /** Not logged in; `over`: was, until now. */
  | { readonly is: "none"; readonly over: boolean }
  /** There is no answer yet. */
  | { readonly is: "away" }
  | { readonly is: "open"; readonly session: Client.Session }

const state = Store.make<State>({ is: "asking" })

export const useSession = (): State => Store.useStore(state)

/** The session's facts; undefined without one. */
export const useOpen = (): Client.Session | undefined =>
  Store.useSelected(state, (found) => (found.is === "open" ? found.session : undefined))

export const open = (session: Client.Session): void => state.set({ is: "open", session })

/** Asks whether there is a session. */
export const ask = async (): Promise<void> => {
  try {
    open(await Client.session())
  } catch (thrown) {
    const { status } = Client.toError(thrown)
    state.set(status === 401 || status === 403 ? { is: "none", over: false } : { is: "away" })
  }
}

export const close = async (): Promise<void> => {
  await Client.logOut()
  state.set({ is: "none", over: false })
}

Client.onSessionEnd(() => {
  if (state.get().is === "open") state.set({ is: "none", over: true })
})
