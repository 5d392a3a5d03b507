/** The frame of the page: who looks at it, and which room they are in. */
import { useEffect, useErrorBoundary, useLayoutEffect, useRef } from "preact/hooks"
import { Banner } from "./Banner.js"
import type * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import { Login } from "./Login.js"
import * as Live from "./Live.js"
import { Overview } from "./Overview.js"
import { Reconnect, Users } from "./People.js"
import { Person } from "./Person.js"
import * as Route from "./Route.js"
import * as Session from "./Session.js"
import { Top } from "./Top.js"
import "./shell.css"

const Room = ({ route }: { readonly route: Route.Route }) => {
  switch (route.to) {
    case "overview":
      return <Overview />
    case "reconnect":
      return <Reconnect after={route.after} />
    case "users":
      return <Users prefix={route.prefix} after={route.after} />
    case "user":
      return <Person key={route.userUlid} userUlid={route.userUlid} />
  }
}

/** What goes wrong in a room keeps nobody from the others. */
const Safe = ({ route }: { readonly route: Route.Route }) => {
  const [error, reset] = useErrorBoundary() as [Error | undefined, () => void]
  const before = useRef(route.to)
  if (error !== undefined && before.current !== route.to) reset()
  before.current = route.to
  if (error === undefined) return <Room route={route} />
  return (
    <div class="note broken stack" role="alert">
      <h1>This part of the page failed.</h1>
      <p class="mono">{String(error)}</p>
      <p>The service is not touched by it. Reload the page; if it fails again, its answers and this page do not fit.</p>
    </div>
  )
}

const titles = { overview: "Overview", reconnect: "Reconnect", users: "Users", user: "User" } as const

/** A room that is entered is read from its beginning, by screen readers too. */
const useEntrance = (route: Route.Route) => {
  const main = useRef<HTMLElement>(null)
  const room = route.to === "user" ? Route.toHash(route) : route.to
  const before = useRef(room)
  // Before anything can be seen of it: whoever is already typing there would be taken away from it.
  useLayoutEffect(() => {
    document.title = `${titles[route.to]} · cal-tokens`
    if (before.current === room) return
    before.current = room
    window.scrollTo(0, 0)
    main.current?.focus({ preventScroll: true })
  }, [room, route.to])
  return main
}

/** Over what was there before: whoever logs in again is where they were. */
const Again = ({ demo }: { readonly demo: boolean }) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => dialog.current?.showModal(), [])
  return (
    <dialog ref={dialog} class="again" aria-label="Log in again" onCancel={(event) => event.preventDefault()}>
      {demo ? (
        <div class="login panel stack">
          <h1>The session is over</h1>
          <p>In the demo a new one begins when the page is loaded.</p>
          <button type="button" class="button primary" onClick={() => location.reload()}>
            Load the page
          </button>
        </div>
      ) : (
        <Login title="The session is over" />
      )}
    </dialog>
  )
}

const Open = ({ isOver, session }: { readonly session: Client.Session; readonly isOver: boolean }) => {
  const { demo, name } = session
  const route = Route.useRoute()
  const main = useEntrance(route)
  useEffect(() => {
    if (isOver) return
    const controller = new AbortController()
    void Live.startEvents(controller.signal)
    return () => controller.abort()
  }, [isOver])
  return (
    <>
      <Top name={name} />
      <Banner />
      <main ref={main} id="content" class="page" tabIndex={-1}>
        <Safe route={route} />
      </main>
      {isOver && <Again demo={demo} />}
    </>
  )
}

const NoAnswer = () => {
  useEffect(() => {
    const controller = new AbortController()
    const again = async () => {
      await Clock.sleep(2_000, controller.signal)
      if (!controller.signal.aborted) await Session.ask()
    }
    void again()
    return () => controller.abort()
  })
  return (
    <main class="page alone">
      <div class="note broken" role="alert">
        <h1>The service does not answer.</h1>
        <p>This page tries again every other second.</p>
      </div>
    </main>
  )
}

export const App = () => {
  const state = Session.useSession()
  useEffect(() => void Session.ask(), [])
  switch (state.is) {
    case "asking":
      return null
    case "away":
      return <NoAnswer />
    case "open":
    case "over":
      return <Open session={state.session} isOver={state.is === "over"} />
    case "none":
      return (
        <main class="page alone">
          <Login title="Log in to cal-tokens" />
        </main>
      )
  }
}
