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

  it("end with the process", async () => {
    await cal.dispose()
    assert.deepInclude(await cal.getCalTokenInfo(ada), { success: false, code: "ShuttingDown" })
  })
})
