/** In the demo alone: Cal.com and people can be played, and what the service makes of it is told. */
import { useMemo, useState } from "preact/hooks"
import * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import * as DemoUsers from "./DemoUsers.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Live from "./Live.js"
import { useLoaded, useThrottled } from "./Load.js"
import { kinds, StatusBadge } from "./People.js"
import * as Play from "./Play.js"
import { Prose } from "./Prose.js"
import * as Route from "./Route.js"
import * as Session from "./Session.js"
import * as Store from "./Store.js"

type DemoUser = Play.DemoUser

interface Told {
  readonly id: number
  readonly at: number
  readonly title: string
  readonly promise: string
  readonly lines: ReadonlyArray<string>
  readonly wait?: { readonly until: number; readonly why: string } | undefined
  readonly end?: Play.End
}

/** What was played since the page was opened, the latest first. It goes on while one looks elsewhere. */
const told = Store.make<ReadonlyArray<Told>>([])
const kept = 12
let last = 0

const begin = (title: string, promise: string): number => {
  const id = ++last
  told.set([{ id, at: Clock.now(), title, promise, lines: [] }, ...told.get()].slice(0, kept))
  return id
}

const change = (id: number, how: (before: Told) => Told): void =>
  told.set(told.get().map((one) => (one.id === id ? how(one) : one)))

const patience = 120_000

const post = (path: string, body?: object) =>
  Client.request<unknown>(path, { method: "POST", patience, ...(body === undefined ? {} : { body }) })

const stageOf = (sandbox: string, id: number): Play.Stage => ({
  control: (path, body) => post(`${sandbox}/_control/${path}`, body),
  requests: ({ userUlid }, times) =>
    post(`${sandbox}/_demo/users/${userUlid}/requests`, { times }) as Promise<Play.Requests>,
  refresh: ({ userUlid }) => Client.refresh(userUlid).catch(Client.toError),
  reissue: ({ userUlid }) => Client.reissue(userUlid).catch(Client.toError),
  history: ({ userUlid }) => Client.history(userUlid),
  now: Clock.now,
  say: (text) => change(id, (before) => ({ ...before, lines: [...before.lines, text] })),
  wait: async (until, why) => {
    change(id, (before) => ({ ...before, wait: { until, why } }))
    await Clock.sleep(until - Clock.now())
    change(id, (before) => ({ ...before, wait: undefined }))
  }
})

const run = async (title: string, promise: string, play: (id: number) => Promise<Play.End>) => {
  const id = begin(title, promise)
  const end = await play(id).catch((thrown: unknown): Play.End => {
    const { message } = Client.toError(thrown)
    change(id, (before) => ({ ...before, lines: [...before.lines, message] }))
    return "odd"
  })
  change(id, (before) => ({ ...before, wait: undefined, end }))
}

const start = (
  mishap: Play.Mishap,
  sandbox: string,
  users: ReadonlyArray<DemoUser>,
  everybody: ReadonlyArray<DemoUser>
) => {
  const { promise, title } = Play.scenes[mishap]
  const groups = mishap === "down" ? [users] : users.map((user) => [user])
  for (const group of groups) {
    const names = Play.listed(group.map(({ name }) => name))
    void run(`${title}: ${names}`, promise, (id) => Play.play(mishap, stageOf(sandbox, id), group, everybody))
  }
}

const consent = (sandbox: string, user: DemoUser) =>
  run(`Consent again: ${user.name}`, "Who has consented again is kept connected as before.", async (id) => {
    await post(`${sandbox}/_demo/users/${user.userUlid}/consent`)
    stageOf(sandbox, id).say(`${user.name} is connected again, with new tokens.`)
    return "kept"
  })

const ends = {
  kept: ["ok", "Promise kept"],
  reconnect: ["attention", "Has to reconnect"],
  odd: ["broken", "Look closer"]
} as const satisfies Record<Play.End, readonly [string, string]>

const Countdown = ({ until, why }: NonNullable<Told["wait"]>) => {
  const left = Clock.useNow((now) => Math.max(0, Math.ceil((until - now) / 1_000)))
  return (
    <p class="quiet">
      {why}: {Format.duration(left * 1_000)}.
    </p>
  )
}

const Story = ({ story }: { readonly story: Told }) => {
  const [level, word] = story.end === undefined ? (["neutral", "Running"] as const) : ends[story.end]
  return (
    <li class="story stack">
      <div class="row">
        <strong>{story.title}</strong>
        <span class={`badge ${level}`}>{word}</span>
        <span class="quiet">
          <Instant at={story.at} as={(at) => Format.clockWithSeconds(at)} isStop={false} />
        </span>
      </div>
      {story.lines.map((line) => (
        <p key={line}>
          <Prose text={line} />
        </p>
      ))}
      {story.wait !== undefined && <Countdown {...story.wait} />}
      {story.end === "kept" && <p class="quiet">{story.promise}</p>}
    </li>
  )
}

/** How each of them stands. */
const useStandings = (users: ReadonlyArray<DemoUser>) => {
  const { reload, value } = useLoaded(users.map(({ userUlid }) => userUlid).join(), (signal) =>
    Promise.all(users.map(({ userUlid }) => Client.user(userUlid, signal).catch(() => undefined)))
  )
  const again = useThrottled(1_000, reload)
  Live.useEvents(() => again())
  return value ?? []
}

interface WhomProps {
  readonly sandbox: string
  readonly user: DemoUser
  readonly connection: Client.ConnectionFacts | undefined
}

const Standing = ({ connection, sandbox, user }: WhomProps) => (
  <span class="row whom-standing">
    {connection === undefined ? (
      <span class="quiet">not connected</span>
    ) : (
      <>
        <StatusBadge status={connection.status} />
        <span class="quiet">
          token ends <Instant at={connection.accessTokenExpiresAt} isStop={false} />
        </span>
      </>
    )}
    <a href={Route.toHash({ to: "user", userUlid: user.userUlid })} aria-label={`History of ${user.name}`}>
      History
    </a>
    {connection?.status !== "active" && (
      <button
        type="button"
        class="button"
        onClick={({ currentTarget }) => {
          // It goes when they are connected, and would take the focus along.
          if (currentTarget.previousElementSibling instanceof HTMLElement) currentTarget.previousElementSibling.focus()
          void consent(sandbox, user)
        }}
      >
        {user.kind === "oauth2" ? "Consent again" : "Connect again"}
      </button>
    )}
  </span>
)

const Controls = ({ sandbox, users }: { readonly sandbox: string; readonly users: ReadonlyArray<DemoUser> }) => {
  const [chosen, choose] = useState<string>()
  const standings = useStandings(users)
  const stories = Store.useStore(told)
  const whom = useMemo(
    () => users.filter(({ userUlid }) => chosen === undefined || chosen === userUlid),
    [chosen, users]
  )
  const kind = chosen === undefined ? "everybody" : (whom[0]?.kind ?? "everybody")
  const able = whom.filter(
    ({ userUlid }) => standings[users.findIndex((each) => each.userUlid === userUlid)]?.status === "active"
  )
  const option = (value: string | undefined, text: string) => (
    <label class="whom-name">
      <input type="radio" name="whom" checked={chosen === value} onChange={() => choose(value)} /> {text}
    </label>
  )
  return (
    <>
      <fieldset class="whom">
        <legend class="quiet">To whom</legend>
        <div class="whom-row">{option(undefined, "Everybody")}</div>
        {users.map((user, index) => (
          <div key={user.userUlid} class="whom-row">
            {option(user.userUlid, `${user.name}, ${kinds[user.kind]}`)}
            <Standing user={user} connection={standings[index]} sandbox={sandbox} />
          </div>
        ))}
      </fieldset>
      <div class="scenes">
        {Play.mishaps
          .filter((mishap) => Play.scenes[mishap].isFor(kind))
          .map((mishap) => {
            const { title, what } = Play.scenes[mishap]
            return (
              <div key={mishap} class="scene stack">
                <button
                  type="button"
                  class="button"
                  aria-describedby={`scene-${mishap}`}
                  aria-disabled={able.length === 0}
                  onClick={() => able.length > 0 && start(mishap, sandbox, able, users)}
                >
                  {title}
                </button>
                <p id={`scene-${mishap}`} class="quiet">
                  {what(kind)}
                </p>
              </div>
            )
          })}
      </div>
      <div role="log" aria-label="What is seen">
        <ol class="stories" {...(stories.length > 0 ? { tabIndex: 0, "aria-label": "What was seen" } : {})}>
          {stories.map((story) => (
            <Story key={story.id} story={story} />
          ))}
        </ol>
      </div>
    </>
  )
}

export const Demo = () => {
  const sandbox = Session.useOpen()?.sandbox
  const users = DemoUsers.useUsers()
  if (sandbox === undefined) return null
  return (
    <section class="panel stack" aria-labelledby="demo">
      <div class="panel-head">
        <h2 id="demo">Play Cal.com</h2>
        <span class="quiet">Only in the demo</span>
      </div>
      <p>
        Do to these users what networks, people and Cal.com do sooner or later, and see what the service makes of it.
        Cal.com is simulated here, and its tokens live two minutes.
      </p>
      {users.length > 0 && <Controls sandbox={sandbox} users={users} />}
    </section>
  )
}
