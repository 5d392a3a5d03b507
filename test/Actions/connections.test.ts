/** Promise backends connect, create, list and disconnect users, over everything that stands behind the functions. */
import { AsyncLocalStorage } from "node:async_hooks"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer, ManagedRuntime, Option, Redacted } from "effect"
import * as Actions from "../../src/Actions.js"
import * as CalApi from "../../src/CalApi.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as ConnectFlow from "../../src/ConnectFlow.js"
import * as Sandbox from "../../src/Testing.js"
import * as Sessions from "../../src/Sessions.js"
import { ManagedUsers } from "../../src/ManagedUsers.js"
import { iso, UserUlid, uuidFromUlid } from "../../src/Token.js"
import { CalUnavailable } from "../../src/TokenError.js"
import { accessToken, fakes, recorder, user, valid } from "../support/ActionsFakes.js"
import * as Flow from "../support/FlowWorld.js"

const other = "01BX5ZZKBKACTAV9WEVGEMMVRZ"

const store = new AsyncLocalStorage<string>()

const now = () => Effect.runSync(Clock.currentTimeMillis)

type Services = Layer.Layer.Success<ReturnType<typeof Sandbox.layerTest>>

/** A backend over the simulator: its functions, what `revalidate` was told, and a way behind them. */
const start = async (options: Omit<Actions.Options, "layer"> = {}) => {
  const runtime = ManagedRuntime.make(Sandbox.layerTest({ returnUrls: ["https://app.example/settings"] }))
  const { context } = await runtime.runtime()
  const log = recorder()
  const revalidated: Array<unknown> = []
  const cal = Actions.make({
    revalidate: (_, userUlid) => void revalidated.push([store.getStore(), userUlid]),
    ...options,
    layer: Layer.merge(Layer.succeedContext(context), log.layer)
  })
  return {
    cal,
    lines: log.lines,
    revalidated,
    run: <A, E>(effect: Effect.Effect<A, E, Services>) => runtime.runPromise(effect),
    grant: async (email: string) => {
      const { accessToken, refreshToken, ...grant } = await runtime.runPromise(
        Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.grantManaged({ email }))
      )
      const tokens = { accessToken: Redacted.value(accessToken), refreshToken: Redacted.value(refreshToken) }
      return { calUserId: grant.calUserId, tokens: { ...tokens, accessTokenExpiresAt: grant.accessTokenExpiresAt } }
    },
    end: async () => {
      await cal.dispose()
      await runtime.dispose()
    }
  }
}

const succeeded = <A extends { readonly success: true }>(answer: A | Actions.Failure): A => {
  assert(answer.success, JSON.stringify(answer))
  return answer
}

describe("connectCalUser and disconnectCalUser", () => {
  it("keep a pair that was got elsewhere, and forget it", async () => {
    const { cal, end, grant, revalidated } = await start()
    const { calUserId, tokens } = await grant("ada@example.com")
    assert.deepInclude(await cal.getCalTokenInfo(user), { code: "TokensNotFound", httpStatus: 404 })
    const connected = await store.run("request 1", () =>
      cal.connectCalUser(user, { kind: "managed", calUserId }, tokens)
    )
    assert.deepStrictEqual(connected, { success: true, calUserId })
    assert.deepInclude(await cal.ensureValidCalToken(user), { accessToken: tokens.accessToken })
    assert.deepStrictEqual(await store.run("request 2", () => cal.disconnectCalUser(user)), { success: true })
    assert.deepStrictEqual(revalidated, [
      ["request 1", user],
      ["request 2", user]
    ])
    assert.deepInclude(await cal.ensureValidCalToken(user), { code: "TokensNotFound" })
    assert.deepInclude(await cal.disconnectCalUser(user), { code: "TokensNotFound", httpStatus: 404 })
    assert.strictEqual(revalidated.length, 2)
    await end()
  })

  it("keep one through OAuth2, whose account the token names, with its scope", async () => {
    const { cal, end, run } = await start()
    const { accessToken, calUserId, refreshToken } = await run(
      Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.grantOAuth2({ email: "ada@example.com" }))
    )
    const answer = await cal.connectCalUser(
      user,
      { kind: "oauth2", scope: "BOOKING_READ" },
      {
        accessToken: Redacted.value(accessToken),
        refreshToken: Redacted.value(refreshToken),
        accessTokenExpiresAt: iso(now() + 1_800_000)
      }
    )
    assert.deepStrictEqual(answer, { success: true, calUserId })
    const page = succeeded(await cal.listCalConnections())
    assert.deepInclude(page.connections[0], { kind: "oauth2", calUserId, scope: "BOOKING_READ", status: "active" })
    await end()
  })

  it("move an account with `replace` only", async () => {
    const { cal, end, grant } = await start()
    const { calUserId, tokens } = await grant("ada@example.com")
    const account = { kind: "managed", calUserId } as const
    succeeded(await cal.connectCalUser(user, account, tokens))
    assert.deepInclude(await cal.connectCalUser(other, account, tokens), { code: "CalAccountInUse", httpStatus: 409 })
    succeeded(await cal.connectCalUser(other, account, tokens, { replace: true }))
    const { connections } = succeeded(await cal.listCalConnections())
    assert.deepStrictEqual(
      connections.map(({ userUlid }) => userUlid),
      [other]
    )
    await end()
  })

  it("take no account, pair or option that is none, and say which field it is", async () => {
    const { cal, end, grant, revalidated } = await start()
    const { calUserId, tokens } = await grant("ada@example.com")
    const managed = { kind: "managed", calUserId } as const
    for (const [args, error] of [
      [[user, undefined, tokens], /^account must be an object\.$/],
      [[user, "managed", tokens], /^account must be an object\.$/],
      [[user, { calUserId }, tokens], /^kind is required\.$/],
      [[user, { kind: "SECRET" }, tokens], /^kind must be "managed" \| "oauth2"\.$/],
      [[user, { kind: "managed" }, tokens], /^calUserId is required/],
      [[user, { kind: "managed", calUserId: "7" }, tokens], /^calUserId must be/],
      [[user, { kind: "managed", calUserId: -7 }, tokens], /^calUserId must be a positive whole number/],
      [[user, { ...managed, clientId: "SECRET" }, tokens], /^clientId must be one of/],
      [[user, managed, undefined], /^tokens|^accessToken|^body/],
      [[user, managed, { ...tokens, accessToken: "SECRET with a space" }], /^accessToken must be a token/],
      [[user, managed, { ...tokens, accessTokenExpiresAt: 7 }], /^accessTokenExpiresAt must be an instant/],
      [[user, managed, tokens, { replace: "SECRET" }], /^replace must be true or false\.$/],
      [["SECRET", managed, tokens], /^userUlid must be a ULID, .* or a UUID\. Users with other ids/]
    ] as const) {
      const failure = await cal.connectCalUser(...(args as unknown as Parameters<typeof cal.connectCalUser>))
      assert(Actions.isFailure(failure))
      assert.deepInclude(failure, { code: "InvalidInput", httpStatus: 400 })
      assert.match(failure.error, error)
      assert.notInclude(failure.error, "SECRET")
    }
    assert.deepStrictEqual(revalidated, [])
    await end()
  })
})

describe("importCalConnections", () => {
  it("takes over users of another system, each with an answer, and tells of those who changed", async () => {
    const { cal, end, grant, revalidated } = await start()
    const [ada, grace] = [await grant("ada@example.com"), await grant("grace@example.com")]
    const rowOf = (userUlid: string, { calUserId, tokens }: typeof ada) => ({
      userUlid,
      account: { kind: "managed", calUserId } as const,
      tokens
    })
    const rows = [rowOf(user, ada), rowOf("SECRET", ada), rowOf(uuidFromUlid(other as UserUlid), grace)]
    const imported = await store.run("request 1", () => cal.importCalConnections(rows))
    assert.deepStrictEqual(
      succeeded(imported).results.map(({ outcome, userUlid }) => [userUlid, outcome]),
      [
        [user, "imported"],
        [undefined, "rejected"],
        [other, "imported"]
      ]
    )
    assert.deepStrictEqual(revalidated, [
      ["request 1", user],
      ["request 1", other]
    ])
    const again = succeeded(await cal.importCalConnections([rowOf(user, ada), rowOf(user, grace)]))
    assert.deepStrictEqual(
      again.results.map((result) => (result.outcome === "rejected" ? result.reason : result.outcome)),
      [
        "unchanged",
        `User ${user} is connected to another Cal.com account, or through another client: disconnect them first.`
      ]
    )
    assert.strictEqual(revalidated.length, 2)
    assert.deepInclude(await cal.ensureValidCalToken(user), { accessToken: ada.tokens.accessToken })
    await end()
  })

  it("takes no row that is none, says which field it is, and goes on with the others", async () => {
    const { cal, end, grant } = await start()
    const { calUserId, tokens } = await grant("ada@example.com")
    const account = { kind: "managed", calUserId } as const
    const cases: ReadonlyArray<readonly [row: unknown, reason: RegExp]> = [
      [undefined, /^userUlid must be a ULID/],
      ["SECRET", /^userUlid must be a ULID/],
      [{ userUlid: user }, /^account must be an object\.$/],
      [{ userUlid: user, account: { kind: "SECRET" }, tokens }, /^kind must be "managed" \| "oauth2"\.$/],
      [{ userUlid: user, account }, /^accessToken is required\.$/],
      [{ userUlid: user, account, tokens: { ...tokens, refreshToken: "SECRET one" } }, /^refreshToken must be a token/],
      [{ userUlid: user, account: { kind: "managed" }, tokens }, /^calUserId is required/]
    ]
    const rows = [...cases.map(([row]) => row), { userUlid: user, account, tokens }]
    const { results } = succeeded(await cal.importCalConnections(rows as ReadonlyArray<Actions.CalConnectionToImport>))
    assert.deepStrictEqual(results.at(-1), { userUlid: user as UserUlid, outcome: "imported" })
    for (const [index, [, reason]] of cases.entries()) {
      const result = results[index]
      assert(result?.outcome === "rejected")
      assert.match(result.reason, reason)
      assert.notInclude(result.reason, "SECRET")
    }
    for (const [rows, error] of [
      [undefined, "rows must be an array."],
      [Array.from({ length: 501 }, () => "SECRET"), "rows must be at most 500 at once."]
    ] as const) {
      assert.deepInclude(await cal.importCalConnections(rows as never), {
        code: "InvalidInput",
        httpStatus: 400,
        error
      })
    }
    await end()
  })

  it("asks `authorize` once for each user, and stores nothing of those that it refuses", async () => {
    const asked: Array<string> = []
    const { cal, end, grant, revalidated } = await start({
      authorize: (userUlid) => {
        asked.push(userUlid)
        return userUlid === user
      }
    })
    const [ada, grace] = [await grant("ada@example.com"), await grant("grace@example.com")]
    const rows = [
      { userUlid: other, account: { kind: "managed", calUserId: grace.calUserId } as const, tokens: grace.tokens },
      { userUlid: user, account: { kind: "managed", calUserId: ada.calUserId } as const, tokens: ada.tokens },
      { userUlid: user.toLowerCase(), account: { kind: "managed", calUserId: 7 } as const, tokens: ada.tokens }
    ]
    const { results } = succeeded(await cal.importCalConnections(rows))
    assert.deepStrictEqual(results.slice(0, 2), [
      { userUlid: other as UserUlid, outcome: "rejected", reason: "You may not use this user's Cal.com connection." },
      { userUlid: user as UserUlid, outcome: "imported" }
    ])
    assert.strictEqual(results[2]?.outcome, "rejected")
    assert.deepStrictEqual(asked, [other, user])
    assert.deepStrictEqual(revalidated, [[undefined, user]])
    assert.deepInclude(await cal.getCalTokenInfo(user), { success: true })
    await end()
  })

  it("stores nothing where nobody can tell whether the caller may", async () => {
    const { cal, end, grant } = await start({
      authorize: (userUlid) => {
        if (userUlid === other) throw new Error("no session")
        return true
      }
    })
    const { calUserId, tokens } = await grant("ada@example.com")
    const row = { account: { kind: "managed", calUserId } as const, tokens }
    const answer = await cal.importCalConnections([
      { ...row, userUlid: user },
      { ...row, userUlid: other }
    ])
    assert.deepInclude(answer, { success: false, code: "Unauthorized" })
    assert.deepInclude(await cal.getCalTokenInfo(user), { code: "TokensNotFound" })
    await end()
  })
})

describe("createManagedCalUser", () => {
  it("creates at Cal.com and here, once, however often it is asked", async () => {
    const { cal, end, revalidated, run } = await start()
    const person = { email: "grace@example.com", name: "Grace", timeZone: "Europe/London" }
    const { calUserId } = succeeded(await store.run("request", () => cal.createManagedCalUser(user, person)))
    assert.deepStrictEqual(await cal.createManagedCalUser(user, person), { success: true, calUserId })
    assert.deepStrictEqual(revalidated, [["request", user]])
    const count = await run(Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.count("createManaged")))
    assert.strictEqual(count, 1)
    const me = await cal.makeCalApiRequest<{ readonly data: { readonly id: number } }>("/me", "GET", null, user)
    assert(!Actions.isFailure(me))
    assert.strictEqual(me.data.id, calUserId)
    await end()
  })

  it("asks Cal.com for nothing that is no person", async () => {
    const { cal, end, run } = await start()
    for (const [person, error] of [
      [undefined, /^user must be an object\.$/],
      [{ name: "Grace" }, /^email is required\.$/],
      [{ email: "SECRET", name: "Grace" }, /^email must be an e-mail address\.$/],
      [{ email: "a@example.com", name: "" }, /^name must be a text of 1 to 255 characters\.$/],
      [{ email: "a@example.com", name: "\0" }, /^name must have .* no NUL/],
      [{ email: "a@example.com", name: "Grace", timeFormat: 13 }, /^timeFormat must be 12 \| 24\.$/],
      [{ email: "a@example.com", name: "Grace", metadata: { a: 1 } }, /^metadata must be/],
      [{ email: "a@example.com", name: "Grace", clientId: "SECRET" }, /^clientId must be one of/]
    ] as const) {
      const failure = await cal.createManagedCalUser(user, person as Actions.NewManagedCalUser)
      assert(Actions.isFailure(failure))
      assert.match(failure.error, error)
      assert.notInclude(failure.error, "SECRET")
    }
    const count = await run(Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.count("createManaged")))
    assert.strictEqual(count, 0)
    await end()
  })
})

describe("the consent flow", () => {
  it("connects a person who comes back to the app's callback, once", async () => {
    const { cal, end, revalidated, run } = await start()
    const begun = succeeded(await cal.calConnectUrl(user))
    assert.match(begun.expiresAt, /^\d{4}-.*Z$/)
    assert.strictEqual(new URL(begun.url).searchParams.get("state"), begun.state)
    assert.strictEqual(begun.redirectUri, new URL(begun.url).searchParams.get("redirect_uri"))
    assert.isFalse("codeChallenge" in begun)
    const query = await run(Flow.consent(begun.url))
    const returned = { code: query.get("code") ?? "", state: query.get("state") ?? "" }
    assert.deepStrictEqual(revalidated, [])
    const { calUserId } = succeeded(await store.run("request", () => cal.exchangeCalCode(user, returned)))
    assert.isNumber(calUserId)
    assert.deepStrictEqual(revalidated, [["request", user]])
    assert.deepInclude(await cal.ensureValidCalToken(user), { success: true })
    assert.deepInclude(await cal.exchangeCalCode(user, returned), { code: "InvalidInput", httpStatus: 400 })
    await end()
  })

  it("connects nobody whose state was made for somebody else", async () => {
    const { cal, end, revalidated, run } = await start()
    const query = await run(Flow.consent(succeeded(await cal.calConnectUrl(user)).url))
    const returned = { code: query.get("code") ?? "", state: query.get("state") ?? "" }
    assert.match(((await cal.exchangeCalCode(other, returned)) as Actions.Failure).error, /^state is not this user's/)
    assert.deepInclude(await cal.getCalTokenInfo(other), { code: "TokensNotFound" })
    assert.deepStrictEqual(revalidated, [])
    await end()
  })

  it("connects a person who came back through the service's callback", async () => {
    const { cal, end, revalidated, run } = await start()
    const returnTo = "https://app.example/settings/calendar"
    const query = await run(Flow.consent(succeeded(await cal.calConnectUrl(user, { returnTo })).url))
    const completion = await run(
      Effect.flatMap(ConnectFlow.ConnectFlow, (flow) => flow.comeBack(query)).pipe(
        Effect.flatMap(Flow.completionOf),
        Effect.map(Redacted.value)
      )
    )
    assert.deepInclude(await cal.confirmCalConnection(user, ""), { code: "InvalidInput" })
    const { calUserId } = succeeded(await store.run("request", () => cal.confirmCalConnection(user, completion)))
    assert.isNumber(calUserId)
    assert.deepStrictEqual(revalidated, [["request", user]])
    await end()
  })

  it("takes nothing that is malformed, and keeps it from the log", async () => {
    const { cal, end, lines } = await start()
    const failures = [
      await cal.calConnectUrl(user, { returnTo: "https://SECRET.example/" }),
      await cal.calConnectUrl(user, { returnTo: 7 } as never),
      await cal.calConnectUrl(user, { replace: "SECRET" } as never),
      await cal.calConnectUrl(user, "SECRET" as never),
      await cal.exchangeCalCode(user, undefined as never),
      await cal.exchangeCalCode(user, { code: "SECRET" } as never),
      await cal.exchangeCalCode(user, { code: ["SECRET"], state: "SECRET" } as never),
      await cal.exchangeCalCode(user, { code: "SECRET code", state: "SECRET" }),
      await cal.confirmCalConnection(user, undefined as never),
      await cal.confirmCalConnection(user, { SECRET: "SECRET" } as never),
      await cal.confirmCalConnection(user, "SECRET")
    ]
    for (const failure of failures) assert.deepInclude(failure, { code: "InvalidInput", httpStatus: 400 })
    assert.notInclude(JSON.stringify([failures, lines]), "SECRET")
    assert.strictEqual(lines.length, failures.length)
    await end()
  })
})

describe("listCalConnections", () => {
  const users = [1, 2, 3, 4, 5].map((n) => `01ARZ3NDEKTSV4RRFFQ69G5FA${n}`)

  const withUsers = async (options: Omit<Actions.Options, "layer"> = {}) => {
    const world = await start(options)
    await world.run(
      Effect.forEach(users, (user, index) => Sandbox.connectManaged(user, { email: `${index}@example.com` }))
    )
    return world
  }

  const idsOf = (page: Actions.CalConnectionsPage) => page.connections.map(({ userUlid }) => userUlid)

  it("pages through them in order, without tokens", async () => {
    const { cal, end } = await withUsers()
    const first = succeeded(await cal.listCalConnections({ limit: 2 }))
    assert.deepStrictEqual(idsOf(first), users.slice(0, 2))
    const [one] = first.connections
    assert.deepInclude(one, { kind: "managed", status: "active", isExpired: false })
    assert.match(one?.accessTokenExpiresAt ?? "", /^\d{4}-.*Z$/)
    assert.notMatch(JSON.stringify(first), /eyJ/)
    const second = succeeded(await cal.listCalConnections({ limit: 2, cursor: first.cursor }))
    const third = succeeded(await cal.listCalConnections({ limit: 2, cursor: second.cursor }))
    assert.deepStrictEqual([idsOf(second), idsOf(third)], [users.slice(2, 4), users.slice(4)])
    assert.isFalse("cursor" in third)
    assert.deepStrictEqual(idsOf(succeeded(await cal.listCalConnections())), users)
    await end()
  })

  it("shows those who have to reconnect, with the reason", async () => {
    const { cal, end, run } = await withUsers()
    const bob = users[1] ?? ""
    await run(
      Effect.gen(function* () {
        const tokens = yield* CalTokens.CalTokens
        const { connection } = yield* tokens.info(UserUlid.make(bob))
        const sandbox = yield* Sandbox.Sandbox
        yield* sandbox.deleteUser(connection.calUserId ?? 0)
        yield* Effect.flip(tokens.refresh(UserUlid.make(bob), { forceRefresh: true }))
      })
    )
    const page = succeeded(await cal.listCalConnections({ status: "reauthorizationRequired" }))
    assert.deepStrictEqual(idsOf(page), [bob])
    assert.deepInclude(page.connections[0], { status: "reauthorizationRequired", cause: "calUserGone" })
    assert.match(page.connections[0]?.since ?? "", /^\d{4}-.*Z$/)
    assert.deepStrictEqual(idsOf(succeeded(await cal.listCalConnections({ status: "active" }))).length, 4)
    await end()
  })

  it("leaves out those that `authorize` refuses, asked in the caller's context", async () => {
    const asked: Array<unknown> = []
    const { cal, end, lines } = await withUsers({
      authorize: (userUlid) => {
        asked.push([store.getStore(), userUlid])
        return userUlid === users[2]
      }
    })
    const page = succeeded(await store.run("request", () => cal.listCalConnections({ limit: 4 })))
    assert.deepStrictEqual(idsOf(page), users.slice(2, 3))
    assert.strictEqual(page.cursor, users[3])
    assert.deepStrictEqual(
      asked,
      users.slice(0, 4).map((user) => ["request", user])
    )
    assert.deepStrictEqual(lines, [])
    await end()
  })

  it("shows nobody where `authorize` fails", async () => {
    const { cal, end, lines } = await withUsers({ authorize: () => Promise.reject(new Error("no session")) })
    assert.deepInclude(await cal.listCalConnections(), { code: "Unauthorized", httpStatus: 401 })
    assert.strictEqual(lines.length, 1)
    await end()
  })

  it("takes no question that is none", async () => {
    const { cal, end } = await start()
    for (const [options, error] of [
      [{ limit: 0 }, /^limit must be a whole number from 1 to 200\.$/],
      [{ limit: 201 }, /^limit must be/],
      [{ limit: "2" }, /^limit must be a whole number from 1 to 200\.$/],
      [{ status: "SECRET" }, /^status must be "active" \| "reauthorizationRequired"\.$/],
      [{ cursor: "SECRET" }, /^cursor must be the cursor of the page before\.$/],
      [7, /^options must be an object\.$/]
    ] as const) {
      const failure = await cal.listCalConnections(options as never)
      assert(Actions.isFailure(failure))
      assert.match(failure.error, error)
    }
    await end()
  })
})

describe("createCalSession", () => {
  it("makes a key for one user that the service takes, as narrow as was asked for", async () => {
    const { cal, end, run } = await start()
    await run(Sandbox.connectManaged(user))
    const made = succeeded(await cal.createCalSession(user, { ttl: 60, methods: ["GET"], paths: ["/bookings"] }))
    const left = Date.parse(made.expiresAt) - now()
    assert.isTrue(left > 30_000 && left <= 60_000)
    const session = await run(
      Effect.flatMap(Sessions.Sessions, (sessions) => sessions.read(Redacted.make(made.session)))
    )
    assert.deepInclude(Option.getOrThrow(session), {
      userUlid: UserUlid.make(user),
      methods: ["GET"],
      paths: ["/bookings"]
    })
    assert.deepInclude(await cal.createCalSession(other), { code: "TokensNotFound" })
    for (const options of [
      { ttl: 0 },
      { ttl: "60" },
      { methods: "GET" },
      { methods: ["STEAL"] },
      { paths: null },
      []
    ]) {
      assert.deepInclude(await cal.createCalSession(user, options as never), { code: "InvalidInput" })
    }
    await end()
  })
})

describe("users with UUIDs", () => {
  it("are taken by every function, and called by their ULIDs in answers", async () => {
    const asked = new Set<string>()
    const { cal, end, grant, revalidated } = await start({ authorize: (userUlid) => asked.add(userUlid).size > 0 })
    const uuid = uuidFromUlid(UserUlid.make(user))
    const { calUserId, tokens } = await grant("ada@example.com")
    for (const spelling of [uuid, uuid.toUpperCase()]) {
      succeeded(await cal.connectCalUser(spelling, { kind: "managed", calUserId }, tokens))
      succeeded(await cal.updateCalTokens(spelling, tokens))
      succeeded(await cal.ensureValidCalToken(spelling))
      succeeded(await cal.refreshUserCalTokens(spelling))
      succeeded(await cal.getCalTokenInfo(spelling))
      succeeded(await cal.createManagedCalUser(spelling, { email: "ada@example.com", name: "Ada" }))
      succeeded(await cal.calConnectUrl(spelling))
      succeeded(await cal.createCalSession(spelling))
      const me = await cal.makeCalApiRequest("/me", "GET", null, spelling)
      assert.deepInclude(me, { status: "success" })
    }
    assert.strictEqual(succeeded(await cal.listCalConnections()).connections[0]?.userUlid, user)
    succeeded(await cal.disconnectCalUser(uuid))
    assert.deepStrictEqual([...asked], [user])
    assert.isTrue(revalidated.every((it) => JSON.stringify(it) === JSON.stringify([null, user])))
    await end()
  })

  it("have their fresh tokens by one look", async () => {
    const looked: Array<string> = []
    const { layer } = fakes({
      peek: (userUlid) => {
        looked.push(userUlid)
        return userUlid === user ? valid(accessToken) : undefined
      }
    })
    const cal = Actions.make({ layer })
    const uuid = uuidFromUlid(UserUlid.make(user))
    // The services are built by then.
    await cal.getCalTokenInfo(uuid)
    succeeded(await cal.ensureValidCalToken(uuid))
    assert.strictEqual(looked.at(-1), user)
    await cal.dispose()
  })

  it("convert both ways, and answer nothing for what is no id", () => {
    const uuid = uuidFromUlid(UserUlid.make(user))
    for (const id of [uuid, uuid.toUpperCase(), user, user.toLowerCase()]) {
      assert.strictEqual(Actions.ulidFromUuid(id), user)
      assert.strictEqual(Actions.uuidFromUlid(id), uuid)
    }
    for (const wrong of ["", "42", "ada@example.com", "cjld2cjxh0000qzrmn831i7rn", undefined, 42, null]) {
      assert.isUndefined(Actions.ulidFromUuid(wrong as string))
      assert.isUndefined(Actions.uuidFromUlid(wrong as string))
    }
  })
})

describe("`revalidate`", () => {
  /** Nobody publishes what changed: the functions say it themselves. */
  const silent = () => {
    const told: Array<string> = []
    const stored = (_: unknown, __: unknown, onStored?: CalTokens.OnStored) =>
      Effect.zipRight(
        onStored?.(Option.none()) ?? Effect.void,
        new CalUnavailable({ operation: "exchange", reason: "timeout" })
      )
    const connection = { _tag: "ManagedUser", clientId: "client", calUserId: 7 } as const
    const { layer } = fakes({
      connect: () => Effect.succeed({ connection } as CalTokens.ConnectionInfo),
      disconnect: () => Effect.void
    })
    const cal = Actions.make({
      layer: Layer.mergeAll(
        layer,
        Layer.mock(ConnectFlow.ConnectFlow, { exchange: stored, confirm: stored }),
        Layer.mock(ManagedUsers, { create: (userUlid, user, options) => stored(userUlid, user, options?.onStored) })
      ),
      revalidate: (_, userUlid) => void told.push(userUlid)
    })
    return { cal, told }
  }

  for (const [name, call] of [
    ["connectCalUser", (cal) => cal.connectCalUser(user, { kind: "managed", calUserId: 7 }, {} as Actions.NewTokens)],
    ["disconnectCalUser", (cal) => cal.disconnectCalUser(user)],
    ["createManagedCalUser", (cal) => cal.createManagedCalUser(user, { email: "a@example.com", name: "A" })],
    ["exchangeCalCode", (cal) => cal.exchangeCalCode(user, { code: "a", state: "b" })],
    ["confirmCalConnection", (cal) => cal.confirmCalConnection(user, "a")]
  ] as ReadonlyArray<readonly [string, (cal: Actions.Actions) => Promise<object>]>) {
    it(`is told of what ${name} stored, whatever that answers then`, async () => {
      const { cal, told } = silent()
      await call(cal)
      assert.deepStrictEqual(told, [user])
      await cal.dispose()
    })
  }
})

describe("`authorize` that refuses", () => {
  it("is asked before anything is done", async () => {
    // The fakes have no method at all: whatever gets past `authorize` would answer `InternalError`.
    const { layer } = fakes({})
    const cal = Actions.make({ layer, authorize: () => false })
    const failures = [
      await cal.connectCalUser(user, undefined as never, undefined as never),
      await cal.disconnectCalUser(user),
      await cal.createManagedCalUser(user, undefined as never),
      await cal.calConnectUrl(user),
      await cal.exchangeCalCode(user, undefined as never),
      await cal.confirmCalConnection(user, undefined as never),
      await cal.createCalSession(user)
    ]
    for (const failure of failures) assert.deepInclude(failure, { code: "Forbidden", httpStatus: 403 })
  })
})

describe("a layer of one's own with tokens and requests alone", () => {
  it("does for those, and says what the others need", async () => {
    const runtime = ManagedRuntime.make(Sandbox.layerTest())
    const tokens = await runtime.runPromise(Effect.all([CalTokens.CalTokens, CalApi.CalApi]))
    const log = recorder()
    const cal = Actions.make({
      layer: Layer.mergeAll(
        Layer.succeed(CalTokens.CalTokens, tokens[0]),
        Layer.succeed(CalApi.CalApi, tokens[1]),
        log.layer
      )
    })
    const person = { email: "ada@example.com", name: "Ada" }
    for (const [answer, service] of [
      [await cal.createManagedCalUser(user, person), "ManagedUsers"],
      [await cal.calConnectUrl(user), "ConnectFlow"],
      [await cal.exchangeCalCode(user, { code: "a", state: "b" }), "ConnectFlow"],
      [await cal.confirmCalConnection(user, "a"), "ConnectFlow"],
      [await cal.listCalConnections(), "TokenStorage"],
      [await cal.createCalSession(user), "Sessions"]
    ] as const) {
      assert.deepInclude(answer, { code: "StartFailed", httpStatus: 503 })
      assert(!answer.success)
      assert.include(answer.error, ` has no ${service}, which this needs`)
    }
    assert.isTrue(
      log.lines.every(({ level, message }) => level === "ERROR" && message.includes("which this needs: add it"))
    )
    assert.deepInclude(await cal.disconnectCalUser(user), { code: "TokensNotFound" })
    await cal.dispose()
    await runtime.dispose()
  })
})
