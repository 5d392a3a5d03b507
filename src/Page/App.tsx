import { useEffect } from "preact/hooks"
import * as Live from "./Live.js"
import * as Route from "./Route.js"
import * as Session from "./Session.js"

const Room = () => {
  const route = Route.useRoute()
  switch (route.to) {
    case "overview":
      return <h1>Overview</h1>
    case "reconnect":
      return <h1>Reconnect</h1>
    case "users":
      return <h1>Users</h1>
    case "user":
      return <h1 class="mono">{route.userUlid}</h1>
  }
}

const Open = () => {
  Live.useLive((live) => live.is)
  useEffect(() => {
    const controller = new AbortController()
    void Live.startEvents(controller.signal)
    return () => controller.abort()
  }, [])
  return (
    <main class="page">
      <Room />
    </main>
  )
}

export const App = () => {
  const { is } = Session.useSession()
  useEffect(() => void Session.ask(), [])
  return is === "open" ? <Open /> : null
}
