/** Who looks at the page, as far as the service says. The cookie itself is out of a page's sight. */
import * as Client from "./Client.js"
import * as Store from "./Store.js"

export type State =
  | { readonly is: "asking" }
  | { readonly is: "none" }
  /** There was no answer; `tries`: so often. */
  | { readonly is: "away"; readonly tries: number }
  | { readonly is: "open"; readonly session: Client.Session }
  /** It ended while somebody was at it. */
  | { readonly is: "over"; readonly session: Client.Session }

export const state = Store.make<State>({ is: "asking" })

export const useSession = (): State => Store.useStore(state)

/** The session's facts; undefined without one. */
export const useOpen = (): Client.Session | undefined =>
  Store.useSelected(state, (found) => (found.is === "open" ? found.session : undefined))

export const isOpen = (): boolean => state.get().is === "open"

export const open = (session: Client.Session): void => state.set({ is: "open", session })

/** Asks whether there is a session. */
export const ask = async (): Promise<void> => {
  try {
    open(await Client.session())
  } catch (thrown) {
    const { status } = Client.toError(thrown)
    // Whatever is refused, too many attempts among it, is for who logs in.
    const isRefused = status >= 400 && status < 500
    const before = state.get()
    const tries = before.is === "away" ? before.tries + 1 : 1
    state.set(isRefused ? { is: "none" } : { is: "away", tries })
  }
}

/** Other tabs. Several services may live below one origin. */
const tabs =
  "BroadcastChannel" in window
    ? new BroadcastChannel(`cal-tokens session ${new URL(".", document.baseURI).pathname}`)
    : undefined

const leave = () => state.set({ is: "none" })

tabs?.addEventListener("message", leave)

/** Whoever logs out leaves nothing on the screen, in no tab. */
export const close = async (): Promise<void> => {
  await Client.logOut()
  tabs?.postMessage("closed")
  leave()
}

Client.onSessionEnd(() => {
  const found = state.get()
  if (found.is === "open") state.set({ is: "over", session: found.session })
})
