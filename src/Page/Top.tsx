/** The head of the page: whether it is live, where one can go, and who is logged in. */
import { useState } from "preact/hooks"
import * as Client from "./Client.js"
import * as Format from "./Format.js"
import * as Live from "./Live.js"
import * as Route from "./Route.js"
import * as Session from "./Session.js"

const states = {
  loading: { word: "Connecting", level: "neutral" },
  live: { word: "Live", level: "ok" },
  paused: { word: "Paused", level: "attention" },
  away: { word: "The service does not answer", level: "broken" },
  refused: { word: "No answer to show", level: "broken" }
} as const

const State = () => {
  const is = Live.useLive((live) => live.is)
  const { level, word } = states[is]
  const isHeld = is === "paused"
  return (
    <span class="state">
      <span class={`badge ${level}`} role="status">
        {word}
      </span>
      <button type="button" class="button quiet" onClick={() => Live.hold(!isHeld)}>
        {isHeld ? "Go on" : "Pause"}
      </button>
    </span>
  )
}

const Reconnect = () => {
  const users = Live.useLive(({ overview }) => overview?.users.reauthorizationRequired ?? 0)
  if (users === 0) return <>Reconnect</>
  return (
    <>
      Reconnect <span class="tally">{Format.count(users)}</span>
    </>
  )
}

/** The address behind `#` is the room's. */
const skip = (event: Event) => {
  event.preventDefault()
  document.getElementById("content")?.focus()
}

const LogOut = () => {
  const [error, fail] = useState<string | undefined>(undefined)
  const leave = () => Session.close().catch((thrown: unknown) => fail(Client.toError(thrown).message))
  return (
    <>
      <span role="alert" class="field-error">
        {error !== undefined && `Not logged out. ${error}`}
      </span>
      <button type="button" class="button quiet" onClick={() => void leave()}>
        Log out
      </button>
    </>
  )
}

export const Top = ({ name }: { readonly name: string }) => {
  const { to } = Route.useRoute()
  const here = (isHere: boolean) => (isHere ? { "aria-current": "page" as const } : {})
  return (
    <header class="top">
      <a class="skip" href="#content" onClick={skip}>
        Skip to the content
      </a>
      <a class="brand" href="#/">
        <img src="page/icon.svg" alt="" width="20" height="20" />
        cal-tokens
      </a>
      <nav class="rooms" aria-label="Pages">
        <a href="#/" {...here(to === "overview")}>
          Overview
        </a>
        <a href="#/reconnect" {...here(to === "reconnect")}>
          <Reconnect />
        </a>
        <a href="#/users" {...here(to === "users" || to === "user")}>
          Users
        </a>
      </nav>
      <State />
      <span class="who">
        <span class="quiet">Key</span> <span class="mono">{name}</span>
        <LogOut />
      </span>
    </header>
  )
}
