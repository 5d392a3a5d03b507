/** A suite of a program that knows no Effect, as Vitest and Jest run it: both have these two. */
import * as Actions from "cal-tokens/actions"
import { Fault, startSandbox } from "cal-tokens/sandbox"

declare const test: (name: string, run: () => Promise<void>) => void
declare const expect: (actual: unknown) => { readonly toMatchObject: (expected: object) => void }

const ada = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

test("who took the access back has to reconnect, and who has not is served", async () => {
  const cal = await startSandbox()
  const actions = Actions.make({ layer: cal.layer })
  try {
    const { calUserId } = await cal.connect(ada, { kind: "oauth2" })
    cal.inject(Fault.status(503, { kind: "api" }))
    const outage = await actions.makeCalApiRequest("/me", "POST", {}, ada)
    expect(outage).toMatchObject({ code: "CalUnavailable" })
    await cal.expire(ada)
    const me = await actions.makeCalApiRequest("/me", "GET", undefined, ada)
    expect(me).toMatchObject({ data: { id: calUserId } })
    const answer = await fetch(`${cal.url}/_control/calls?kind=oauth2Refresh`)
    expect(await answer.json()).toMatchObject({ calls: [{ status: 200, calUserId }] })
    await cal.revoke(ada)
    const refused = await actions.refreshUserCalTokens(ada, true)
    expect(refused).toMatchObject({ code: "ReauthorizationRequired" })
    expect(cal.env).toMatchObject({ CAL_API_URL: `${cal.url}/v2` })
  } finally {
    await actions.dispose()
    await cal.close()
  }
})
