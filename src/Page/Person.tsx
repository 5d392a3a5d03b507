/** One user: how it stands and why, what happened, and what can be done. */
import type { ComponentChildren } from "preact"
import { useEffect, useMemo, useState } from "preact/hooks"
import * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import { Confirm } from "./Confirm.js"
import { Copy } from "./Copy.js"
import * as DemoUsers from "./DemoUsers.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Live from "./Live.js"
import { useLoaded, useThrottled } from "./Load.js"
import * as Notice from "./Notice.js"
import { kinds, Problem, StatusBadge } from "./People.js"
import { Prose } from "./Prose.js"
import * as Route from "./Route.js"
import * as Timeline from "./Timeline.js"
import type { Circuit } from "./Wire.js"
import * as Words from "./Words.js"

/** Both at once; without a connection there is no history either. */
const load = async (userUlid: string, signal: AbortSignal) => {
  const [connection, history] = await Promise.all([
    Client.user(userUlid, signal).catch((thrown: unknown) => {
      const error = Client.toError(thrown)
      // The history needs no key.
      if (error.code === "TokenUnreadable") return error
      throw thrown
    }),
    Client.history(userUlid, signal)
  ])
  return { connection, history }
}

type Found = Awaited<ReturnType<typeof load>>

const clientOf = (connection: Found["connection"] | undefined): string | undefined =>
  connection === undefined || connection instanceof Client.ServiceError ? undefined : connection.clientId

/** Whether a circuit is one of a client: of this process alone, or of the whole fleet. */
const isOf = (clientId: string | undefined, isOwn: boolean) => (circuit: Circuit) =>
  circuit.clientId === clientId && (circuit.cause === "process") === isOwn

/** What changes when a circuit opens, is tried or closes. */
const trialOf = (circuit: Pick<Circuit, "cause" | "nextTrialAt"> | undefined): string =>
  circuit === undefined ? "" : `${circuit.cause} ${circuit.nextTrialAt}`

/** How often a user is read again while events tell of them, and while a refresh is under way. */
const restless = 1_000
const poll = 2_000

const Fact = ({ children, name }: { readonly name: string; readonly children: ComponentChildren }) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)

const Facts = ({ connection }: { readonly connection: Client.ConnectionFacts }) => (
  <dl class="facts">
    <Fact name="Access token">
      {connection.isExpired ? "ended " : "ends "}
      <Instant at={connection.accessTokenExpiresAt} />
    </Fact>
    <Fact name="Refresh token">
      {connection.refreshTokenExpiresAt === null ? (
        <span class="quiet">Cal.com does not say when it ends</span>
      ) : (
        <>
          ends <Instant at={connection.refreshTokenExpiresAt} />
        </>
      )}
    </Fact>
    <Fact name="Changed">
      <Instant at={connection.updatedAt} />
    </Fact>
    <Fact name="Kind">{kinds[connection.kind]}</Fact>
    <Fact name="Client">
      <span class="mono">{connection.clientId}</span>
    </Fact>
    <Fact name="At Cal.com">
      {connection.calUserId === null ? <span class="quiet">number not known</span> : `user ${connection.calUserId}`}
    </Fact>
    {connection.scope !== undefined && (
      <Fact name="Scope">
        <span class="mono">{connection.scope}</span>
      </Fact>
    )}
    <Fact name="Version">{Format.count(connection.version)}</Fact>
  </dl>
)

const OpenAttempt = ({ open }: { readonly open: NonNullable<Client.UserHistory["open"]> }) => {
  const isOver = Clock.useNow((now) => now > Date.parse(open.leaseUntil))
  return (
    <p class={`note ${isOver ? "attention" : "neutral"}`} role="status">
      <Prose text={open.text} /> It began <Instant at={open.startedAt} />.
    </p>
  )
}

const Entry = ({ entry }: { readonly entry: Timeline.Entry }) => {
  const { level, word } = Timeline.mark(entry)
  return (
    <li class="entry">
      <span class="entry-at">
        <Instant at={entry.at} as={(at) => Format.clockWithSeconds(at)} />
      </span>
      <span class="entry-mark">
        <span class={`badge ${level}`}>{word}</span>
        {entry.event._tag === "Attempt" && <span class="quiet"> {Format.took(entry.event.took)}</span>}
      </span>
      <p class="entry-text">
        <Prose text={entry.text} />
      </p>
    </li>
  )
}

const History = ({ history }: Pick<Found, "history">) => {
  // Days change at midnight, and not otherwise.
  const today = Clock.useNow((now) => Math.floor(now / 60_000))
  const days = useMemo(() => Timeline.byDay(history.entries, today * 60_000), [history, today])
  return (
    <section class="panel stack" aria-labelledby="history">
      <div class="panel-head">
        <h2 id="history">What happened</h2>
        <Copy label="Copy as text" text={() => `${Timeline.toLines(history).join("\n")}\n`} />
      </div>
      {days.length === 0 && <p class="quiet">Nothing in the last 30 days.</p>}
      {days.map(({ entries, name }) => (
        <section key={name} class="stack day" aria-label={name}>
          <h3>{name}</h3>
          <ol class="timeline">
            {entries.map((entry) => (
              <Entry key={`${entry.at} ${entry.text}`} entry={entry} />
            ))}
          </ol>
        </section>
      ))}
      <p class="quiet">
        The latest first, at most 50 entries of 30 days. Refresh tokens are named by the first eight digits of their
        SHA-256.
      </p>
    </section>
  )
}

/** Why this process refreshes nobody of the client. What holds for the whole fleet is in the conclusion. */
const Misconfigured = ({ connection }: Pick<Found, "connection">) => {
  const clientId = clientOf(connection)
  const circuit = Live.useLive(({ overview }) => overview?.circuits.find(isOf(clientId, true)))
  return circuit === undefined ? null : (
    <p class="note broken" role="status">
      {Words.circuit(circuit).title} Until a trial succeeds it refreshes nobody of this client, this user neither.{" "}
      <a href={Route.toHash({ to: "overview" })}>What to do</a>
    </p>
  )
}

interface ActionsProps {
  readonly userUlid: string
  readonly isActive: boolean
  readonly isExpired: boolean
  readonly reload: () => void
}

const Actions = ({ isActive, isExpired, reload, userUlid }: ActionsProps) => {
  const [refreshed, setRefreshed] = useState<Client.Refreshed>()
  const [asked, ask] = useState<"refresh" | "disconnect">()
  return (
    <div class="stack">
      <div class="row">
        <button type="button" class={`button ${isActive ? "primary" : ""}`} onClick={() => ask("refresh")}>
          Refresh
        </button>
        <button type="button" class="button outline-danger" onClick={() => ask("disconnect")}>
          Disconnect
        </button>
      </div>
      <div role="status">
        {refreshed !== undefined && (
          <p class="note ok">
            {refreshed.refreshed ? "Refreshed" : "Refreshed moments ago, so nothing was sent"}: the access token serves
            until <Instant at={refreshed.expiresAt} as={Format.point} />.
          </p>
        )}
      </div>
      {asked === "refresh" && (
        <Confirm
          title="Refresh this user's tokens now?"
          action="Refresh"
          doing="Refreshing…"
          run={() => {
            setRefreshed(undefined)
            // What failed is in the history, too.
            return Client.refresh(userUlid).then(setRefreshed).finally(reload)
          }}
          close={() => ask(undefined)}
        >
          <p>
            {isActive
              ? `The refresh token is spent for a new pair; the access token ${isExpired ? "has ended" : "still serves"}. Nobody notices: whoever asks meanwhile gets the same new token.`
              : "Cal.com refused this user's refresh token for good, so this will hardly succeed before they have reconnected."}{" "}
            It may take some seconds.
          </p>
        </Confirm>
      )}
      {asked === "disconnect" && (
        <Confirm
          title="Disconnect this user?"
          action="Disconnect"
          doing="Disconnecting…"
          isDanger
          run={() => Client.disconnect(userUlid)}
          close={(done) => {
            ask(undefined)
            if (!done) return
            Notice.tell(`${userUlid} is disconnected.`)
            Route.go({ to: "users", prefix: "" })
          }}
        >
          <p>
            This service forgets the user's tokens and history at once, and nothing brings them back: the user has to
            connect again. At Cal.com nothing changes.
          </p>
          <p class="mono">{userUlid}</p>
        </Confirm>
      )}
    </div>
  )
}

const Standing = ({
  found,
  reload,
  userUlid
}: {
  readonly found: Found
  readonly reload: () => void
  readonly userUlid: string
}) => {
  const { connection, history } = found
  return (
    <section class="panel stack" aria-labelledby="standing">
      <div class="panel-head">
        <h2 id="standing">How it stands</h2>
        <StatusBadge status={history.status} />
      </div>
      <p class="conclusion">
        <Prose text={history.conclusion} isStop />
      </p>
      <p>
        <Prose text={history.advice} isStop />
      </p>
      {history.status === "active" && <Misconfigured connection={connection} />}
      {history.open !== undefined && <OpenAttempt open={history.open} />}
      {connection instanceof Client.ServiceError ? (
        <p class="note broken">{connection.message}</p>
      ) : (
        <Facts connection={connection} />
      )}
      <Actions
        userUlid={userUlid}
        isActive={history.status === "active"}
        isExpired={!(connection instanceof Client.ServiceError) && connection.isExpired}
        reload={reload}
      />
    </section>
  )
}

/** What cannot be had because there is none, with a way back. */
const Absent = ({ error }: { readonly error: Client.ServiceError }) => (
  <div class="panel stack">
    <p role="alert">{error.code === "TokensNotFound" ? "Nobody with this ULID is connected." : error.message}</p>
    <div class="row">
      <a class="button" href={Route.toHash({ to: "users", prefix: "" })}>
        All users
      </a>
    </div>
  </div>
)

const absent: ReadonlySet<Client.Code> = new Set<Client.Code>(["TokensNotFound", "InvalidInput"])

export const Person = ({ userUlid }: { readonly userUlid: string }) => {
  const name = DemoUsers.useName(userUlid)
  const { error, reload, value } = useLoaded(userUlid, (signal) => load(userUlid, signal))
  const again = useThrottled(restless, reload)
  Live.useEvents((changes) => {
    if (changes.some((change) => change.event === "reset" || change.userUlid === userUlid)) again()
  })
  // Nothing happens to a user when the client's circuit opens, is tried or closes, but it stands otherwise with them.
  // The history tells the one that opened last.
  const clientId = clientOf(value?.connection)
  const circuit = Live.useLive(({ is, overview }) =>
    is === "live" && clientId !== undefined ? trialOf(overview?.circuits.findLast(isOf(clientId, false))) : undefined
  )
  useEffect(() => {
    if (circuit !== undefined && circuit !== trialOf(value?.history.circuit)) again()
  }, [circuit, value])
  // An attempt that fails while the token serves is no event; one that is under way ends soon.
  const isOpen = value?.history.open !== undefined
  useEffect(() => (isOpen ? Clock.after(poll, reload) : undefined), [value])
  return (
    <article class="stack person">
      <header class="row">
        <h1 class="mono">{userUlid}</h1>
        {name !== undefined && <span class="quiet">{name}, of the demo</span>}
      </header>
      {error !== undefined && absent.has(error.code) ? (
        <Absent error={error} />
      ) : (
        <>
          {error !== undefined && <Problem error={error} retry={reload} />}
          {value === undefined ? (
            error === undefined && (
              <div class="panel stack" aria-hidden="true">
                <span class="skeleton person-skeleton" />
              </div>
            )
          ) : (
            <>
              <Standing found={value} reload={reload} userUlid={userUlid} />
              <History history={value.history} />
            </>
          )}
        </>
      )}
    </article>
  )
}
