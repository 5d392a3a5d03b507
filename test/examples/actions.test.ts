/**
 * Actions in a plain TypeScript backend: promises in, plain objects out, no Effect in the code that uses them. Only the
 * layers below, which a backend has in one file, are Effect.
 */
import { assert, describe, it } from "@effect/vitest"
import { Layer } from "effect"
import * as Actions from "cal-tokens/actions"
import * as Sandbox from "cal-tokens/sandbox"

const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
const bob = "01BX5ZZKBKACTAV9WEVGEMMVRZ"

/** Stands for your sessions: who is asking? */
const session = { userUlid: ada }

/** Stands for Next's `revalidatePath`. */
const revalidated: Array<string> = []

// ---- a server action -------------------------------------------------------------------------------------------------

interface Me {
  readonly data: { readonly id: number; readonly email: string }
}

const makeProfile = (cal: Actions.Actions) => async (userUlid: string) => {
  const me = await cal.makeCalApiRequest<Me>("/me", "GET", undefined, userUlid)
  return Actions.isFailure(me) ? { problem: me.error, code: me.code } : { email: me.data.email }
}

// ---- two routes that connect people ------------------------------------------------------------------------------------

const redirect = (url: string) => new Response(null, { status: 303, headers: { location: url } })

const problem = ({ code, error, httpStatus }: Actions.Failure) => Response.json({ error, code }, { status: httpStatus })

const makeRoutes = (cal: Actions.Actions) => {
  const connect = async () => {
    const begun = await cal.calConnectUrl(session.userUlid)
    return begun.success ? redirect(begun.url) : problem(begun)
  }

  const callback = async (request: Request) => {
    const query = new URL(request.url).searchParams
    const returned = { code: query.get("code") ?? "", state: query.get("state") ?? "" }
    const connected = await cal.exchangeCalCode(session.userUlid, returned)
    return connected.success ? redirect("https://app.example.com/calendar") : problem(connected)
  }

  return { connect, callback }
}

// ---- it works --------------------------------------------------------------------------------------------------------

/** Stands for PostgreSQL and Cal.com; Ada is connected. */
const layer = Layer.provideMerge(
  Layer.effectDiscard(Sandbox.connectManaged(ada, { email: "ada@example.com" })),
  Sandbox.layerTest()
)

describe("actions in a plain backend", () => {
  const cal = Actions.make({
    layer,
    authorize: (userUlid) => userUlid === session.userUlid,
    revalidate: (paths) => void revalidated.push(...paths),
    revalidatePaths: ["/calendar"]
  })
  const profile = makeProfile(cal)

  it("act for the user of the session", async () => {
    assert.deepInclude(await profile(ada), { email: "ada+sandbox-platform-client@example.com" })
  })

  it("act for nobody else", async () => {
    assert.deepInclude(await profile(bob), { code: "Forbidden" })
  })

  it("hand out a token for a request of one's own, and repair it when Cal.com refuses it", async () => {
    const token = await cal.ensureValidCalToken(ada)
    assert(token.success)

    const send = (accessToken: string) =>
      Promise.resolve(new Response(null, { status: accessToken === token.accessToken ? 498 : 200 }))

    const response = await send(token.accessToken)
    const repaired = await cal.handleCalApiResponse(response, send, ada, token.accessToken)
    assert.strictEqual(repaired.status, 200)
    assert.deepStrictEqual(revalidated, ["/calendar"])
  })

  it("answer failures as plain objects", async () => {
    const failure = await cal.updateCalTokens(ada, { accessToken: "", refreshToken: "", accessTokenExpiresAt: "soon" })
    assert.deepInclude(failure, { success: false, code: "InvalidInput" })
  })

  it("connect people by two routes, whose answers tell what went wrong", async () => {
    const { callback, connect } = makeRoutes(cal)
    const begun = await connect()
    assert.strictEqual(begun.status, 303)
    const consent = new URL(begun.headers.get("location") ?? "")
    assert.strictEqual(consent.searchParams.get("client_id"), "sandbox-oauth-client")
    const state = consent.searchParams.get("state") ?? ""
    const back = await callback(new Request(`https://app.example.com/callback?code=guessed&state=${state}`))
    assert.strictEqual(back.status, 400)
    assert.deepInclude(await back.json(), { code: "InvalidInput" })
  })

  it("know their users by UUIDs, too", async () => {
    const uuid = Actions.uuidFromUlid(ada) ?? ""
    assert.deepInclude(await cal.getCalTokenInfo(uuid), { success: true })
    assert.strictEqual(Actions.ulidFromUuid(uuid), ada)
  })

  it("end with the process", async () => {
    await cal.dispose()
    assert.deepInclude(await cal.getCalTokenInfo(ada), { success: false, code: "ShuttingDown" })
  })
})
