/** Lists of users: those who have to reconnect, all of them, and those who are searched for. A page at a time. */
import type { ComponentChildren } from "preact"
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import * as Client from "./Client.js"
import * as Clock from "./Clock.js"
import * as DemoUsers from "./DemoUsers.js"
import * as Format from "./Format.js"
import { Instant } from "./Instant.js"
import * as Live from "./Live.js"
import * as Notice from "./Notice.js"
import { useLoaded, useThrottled } from "./Load.js"
import * as Lookup from "./Lookup.js"
import * as Route from "./Route.js"

const pageSize = 100
/** How often a list is read again while events concern it. */
const restless = 3_000

const causes: Readonly<Record<NonNullable<Client.ListedUser["cause"]>, string>> = {
  revoked: "Cal.com refuses the refresh token.",
  rotationLost: "Cal.com's answer with the new tokens was lost.",
  calUserGone: "The managed user is gone at Cal.com."
}

export const kinds = { managed: "managed user", oauth2: "consented" } as const

export const StatusBadge = ({ status }: { readonly status: Client.Status }) =>
  status === "active" ? <span class="badge ok">Connected</span> : <span class="badge attention">Has to reconnect</span>

const UserLink = ({ userUlid }: { readonly userUlid: string }) => {
  const name = DemoUsers.useName(userUlid)
  return (
    <>
      <a class="mono" href={Route.toHash({ to: "user", userUlid })}>
        {userUlid}
      </a>
      {name !== undefined && <span> {name}</span>}
    </>
  )
}

/** What was asked for could not be had. What is shown is older. */
export const Problem = ({ error, retry }: { readonly error: Client.ServiceError; readonly retry: () => void }) => (
  <div class="note broken row" role="alert">
    <span>{error.message}</span>
    <button type="button" class="button" onClick={retry}>
      Try again
    </button>
  </div>
)

/** Which page came before one, as far as this tab has seen it. */
const before = new Map<string, string | undefined>()

interface PagerProps {
  readonly after: string | undefined
  readonly next: string | undefined
  /** `next` is that of the page before still. */
  readonly isStale: boolean
  readonly toPage: (after: string | undefined) => Route.Route
}

const Pager = ({ after, isStale, next, toPage }: PagerProps) => {
  if (after === undefined && next === undefined) return null
  const previous = after === undefined ? undefined : { after: before.get(after) }
  if (next !== undefined && !isStale) before.set(next, after)
  const link = (text: string, to: Route.Route | undefined, rel?: string) =>
    to === undefined ? (
      <span class="button" aria-disabled="true">
        {text}
      </span>
    ) : (
      <a class="button" href={Route.toHash(to)} rel={rel}>
        {text}
      </a>
    )
  return (
    <nav class="row pager" aria-label="Pages">
      {link("First", after === undefined ? undefined : toPage(undefined))}
      {link("Previous", previous && before.has(after ?? "") ? toPage(previous.after) : undefined, "prev")}
      {link("Next", next === undefined ? undefined : toPage(next), "next")}
    </nav>
  )
}

/** One page of a list, which reads itself again when events concern it. */
const usePage = (query: Client.UsersQuery, concerns: (change: Live.Change) => boolean) => {
  const page = useLoaded(JSON.stringify(query), (signal) => Client.users({ limit: pageSize, ...query }, signal))
  const reload = useThrottled(restless, page.reload)
  const shown = page.value?.connections
  Live.useEvents((changes) => {
    const isShown = (change: Live.Change) => shown?.some(({ userUlid }) => userUlid === change.userUlid) === true
    if (changes.some((change) => change.event === "reset" || isShown(change) || concerns(change))) reload()
  })
  return page
}

/** Goes to the head of a table when it is another page's. */
const useHead = (after: string | undefined) => {
  const frame = useRef<HTMLDivElement>(null)
  const last = useRef(after)
  useLayoutEffect(() => {
    if (last.current === after) return
    last.current = after
    // Whoever types into the search leaves a page, too, and goes on typing.
    if (document.activeElement instanceof HTMLInputElement) return
    frame.current?.focus({ preventScroll: true })
    window.scrollTo(0, 0)
  }, [after])
  return frame
}

interface TableProps {
  readonly label: string
  readonly after: string | undefined
  readonly isBusy: boolean
  readonly columns: ReadonlyArray<string>
  readonly children: ComponentChildren
}

const Table = ({ after, children, columns, isBusy, label }: TableProps) => (
  <div class="table-frame" tabIndex={0} role="region" aria-label={label} aria-busy={isBusy} ref={useHead(after)}>
    <table class="table cards people">
      <thead>
        <tr>
          {columns.map((column) => (
            <th key={column} scope="col">
              {column}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>{children}</tbody>
    </table>
  </div>
)

const Waiting = () => (
  <div class="stack" aria-hidden="true">
    {[0, 1, 2, 3, 4, 5].map((row) => (
      <span key={row} class="skeleton people-row" />
    ))}
  </div>
)

/** The last cells of either list: which account it is. */
const Account = ({ user: { calUserId, clientId, kind } }: { readonly user: Client.ListedUser }) => (
  <>
    <td data-label="Kind">{kinds[kind]}</td>
    <td data-label="Client" class="mono">
      {clientId}
    </td>
    <td data-label="At Cal.com">{calUserId === null ? <span class="quiet">not known</span> : calUserId}</td>
  </>
)

const ReconnectRow = ({ user }: { readonly user: Client.ListedUser }) => (
  <tr>
    <th scope="row">
      <UserLink userUlid={user.userUlid} />
    </th>
    <td class="why">
      {user.cause === undefined ? "" : causes[user.cause]}
      {user.hint !== undefined && <p class="quiet">{user.hint}</p>}
    </td>
    <td data-label="Since">
      {user.since !== undefined && <Instant at={user.since} as={Format.point} isStop={false} />}
    </td>
    <Account user={user} />
  </tr>
)

const change = new Set<Live.Change["event"]>(["reauthorizationRequired", "reauthorized", "disconnected"])

/** Who has to reconnect: the latest first, for that is who was fine an hour ago. */
export const Reconnect = ({ after }: { readonly after: string | undefined }) => {
  const total = Live.useLive((live) => live.overview?.users.reauthorizationRequired)
  const page = usePage(
    { status: "reauthorizationRequired", order: "since", cursor: after },
    ({ event, reauthorized }) => change.has(event) || reauthorized === true
  )
  const users = page.value?.connections
  const isNobody = users?.length === 0 && after === undefined
  const isPart = page.value?.cursor !== undefined || after !== undefined
  // The overview's number may be of a second ago, and counts all pages.
  const seen = users === undefined || isPart ? total && Math.max(total, users?.length ?? 0) : users.length
  return (
    <section class="panel stack" aria-labelledby="reconnect">
      <div class="panel-head">
        <h1 id="reconnect">
          {isNobody
            ? "Nobody has to reconnect"
            : seen === undefined || seen === 0
              ? "Reconnect"
              : `${Format.counted(seen, "person has", "people have")} to reconnect`}
        </h1>
      </div>
      {page.error !== undefined && <Problem error={page.error} retry={page.reload} />}
      {users === undefined ? (
        page.error === undefined && <Waiting />
      ) : isNobody ? (
        <p class="note ok" role="status">
          Everybody who is connected stays connected. Whom Cal.com refuses for good appears here, with the reason.
        </p>
      ) : (
        <>
          <p class="quiet">
            Their refresh tokens are of no use any more, so this service cannot help them: a person who consented has to
            consent again, a managed user has to be created and connected anew. The latest first.
          </p>
          <Table
            label="Who has to reconnect"
            after={after}
            isBusy={page.isStale}
            columns={["User", "Why", "Since", "Kind", "Client", "At Cal.com"]}
          >
            {users.map((user) => (
              <ReconnectRow key={user.userUlid} user={user} />
            ))}
          </Table>
          {users.length === 0 && <p role="status">Nobody is left on this page.</p>}
          <Pager
            after={after}
            isStale={page.isStale}
            next={page.value?.cursor}
            toPage={(after) => ({ to: "reconnect", after })}
          />
        </>
      )}
    </section>
  )
}

const UserRow = ({ user }: { readonly user: Client.ListedUser }) => (
  <tr>
    <th scope="row">
      <UserLink userUlid={user.userUlid} />
    </th>
    <td data-label="Status">
      <StatusBadge status={user.status} />
    </td>
    <td data-label="Access token ends">
      <Instant at={user.accessTokenExpiresAt} isStop={false} />
    </td>
    <td data-label="Changed">
      <Instant at={user.updatedAt} isStop={false} />
    </td>
    <Account user={user} />
  </tr>
)

/** Rows of the page that are meant, and whether there may be more. */
const found = (lookup: Lookup.Lookup, page: Client.UsersPage): Client.UsersPage => {
  if (lookup.is !== "range") return page
  const { last } = lookup.range
  const connections = page.connections.filter(({ userUlid }) => userUlid <= last)
  return connections.length < page.connections.length ? { connections } : page
}

const queryOf = (lookup: Lookup.Lookup, after: string | undefined): Client.UsersQuery => {
  switch (lookup.is) {
    case "range":
      return { cursor: after ?? lookup.range.after }
    case "calUser":
      return { calUserId: lookup.calUserId, cursor: after }
    case "everybody":
    case "user":
    case "nothing":
      return { cursor: after }
  }
}

const hints = {
  everybody: "",
  user: "",
  range: "Nobody's ULID begins like that.",
  calUser: "Nobody is connected to this user of Cal.com's.",
  nothing: "That is no ULID, no UUID, no beginning of one, and no number."
} as const satisfies Record<Lookup.Lookup["is"], string>

const typing = 200

const Search = ({ prefix }: { readonly prefix: string }) => {
  const [text, set] = useState(prefix)
  const cancel = useRef<() => void>(() => undefined)
  // The address may change by a link or by the browser's history. What is typed meanwhile is newer than what is written there.
  const written = useRef(prefix)
  useEffect(() => {
    if (prefix === written.current) return
    written.current = prefix
    set(prefix)
  }, [prefix])
  useEffect(() => () => cancel.current(), [])
  const search = (typed: string) => {
    const lookup = Lookup.read(typed)
    if (lookup.is === "user") return Route.go({ to: "user", userUlid: lookup.userUlid })
    written.current = typed.trim()
    Route.replace({ to: "users", prefix: written.current })
  }
  return (
    <form
      class="field search"
      role="search"
      onSubmit={(event) => {
        event.preventDefault()
        cancel.current()
        search(text)
      }}
    >
      <label for="search">Find a user</label>
      <input
        id="search"
        type="search"
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        placeholder="ULID, UUID, the beginning of one, or number at Cal.com"
        value={text}
        onInput={({ currentTarget: { value } }) => {
          set(value)
          cancel.current()
          cancel.current = Clock.after(typing, () => search(value))
        }}
      />
    </form>
  )
}

/** What was done on the page before. */
const Done = () => {
  const notice = Notice.useNotice()
  useEffect(() => Notice.forget, [])
  return notice === undefined ? null : (
    <p class="note ok" role="status">
      {notice}
    </p>
  )
}

const range = (users: ReadonlyArray<Client.ListedUser>, isAll: boolean): string =>
  isAll
    ? `${Format.counted(users.length, "user", "users")}.`
    : `${Format.counted(users.length, "user", "users")} on this page, in the order of their ULIDs.`

export const Users = ({ after, prefix }: { readonly after: string | undefined; readonly prefix: string }) => {
  const lookup = Lookup.read(prefix)
  const isSearch = lookup.is !== "everybody"
  const page = usePage(queryOf(lookup, after), ({ event }) => event === "connected" || event === "disconnected")
  const all = Live.useLive((live) => live.overview?.users)
  const shown = lookup.is === "nothing" ? { connections: [] } : page.value && found(lookup, page.value)
  const isAll = shown !== undefined && shown.cursor === undefined && after === undefined
  useEffect(() => {
    if (lookup.is === "user") Route.replace({ to: "user", userUlid: lookup.userUlid })
  }, [prefix])
  return (
    <section class="panel stack" aria-labelledby="users">
      <div class="panel-head">
        <h1 id="users">
          Users
          {all !== undefined && (
            <span class="quiet total"> {Format.users(all.active + all.reauthorizationRequired, all.isEstimated)}</span>
          )}
        </h1>
      </div>
      <Done />
      <Search prefix={prefix} />
      {page.error !== undefined && <Problem error={page.error} retry={page.reload} />}
      {shown === undefined ? (
        page.error === undefined && <Waiting />
      ) : (
        <>
          <p class="quiet" role="status">
            {shown.connections.length > 0
              ? range(shown.connections, isAll)
              : isSearch
                ? hints[lookup.is]
                : after === undefined
                  ? "Nobody is connected yet."
                  : "Nobody is left on this page."}
          </p>
          {shown.connections.length > 0 && (
            <Table
              label="Users"
              after={after}
              isBusy={page.isStale}
              columns={["User", "Status", "Access token ends", "Changed", "Kind", "Client", "At Cal.com"]}
            >
              {shown.connections.map((user) => (
                <UserRow key={user.userUlid} user={user} />
              ))}
            </Table>
          )}
          <Pager
            after={after}
            isStale={page.isStale}
            next={shown.cursor}
            toPage={(after) => ({ to: "users", prefix, after })}
          />
        </>
      )}
    </section>
  )
}
