/** Scripts and test runners end by themselves, whether or not somebody closes the simulator. */
import { afterAll, assert, beforeAll, it } from "vitest"
import * as Stranger from "../support/Stranger.js"

let stranger: Stranger.Stranger
beforeAll(async () => {
  stranger = await Stranger.make("Actions.ts", "Testing.ts")
  stranger.install("effect", "@effect/platform", "jose", "lru-cache", "oauth4webapi", "standardwebhooks")
})
afterAll(() => stranger.remove())

const ends = async (script: string): Promise<string> => {
  const { code, output } = await stranger.run(`
    import * as Actions from "./Actions.mjs"
    import { Fault, startSandbox } from "./Testing.mjs"
    ${script}`)
  assert.strictEqual(code, 0, output)
  return output
}

it("a script that forgets to close ends, with all that its users and strangers had open", async () => {
  const output = await ends(`
    import { connect } from "node:net"
    const cal = await startSandbox()
    const actions = Actions.make({ layer: cal.layer })
    await cal.connect("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    const me = await actions.makeCalApiRequest("/me", "GET", undefined, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    const { status } = await fetch(cal.url + "/v2/me")
    // A client that never hangs up, and keeps nothing itself.
    const idle = connect(Number(new URL(cal.url).port), "127.0.0.1")
    await new Promise((resolve) => idle.once("connect", resolve))
    idle.unref()
    console.log(me.status, status)
  `)
  assert.strictEqual(output, "success 401\n")
})

it("an answer that somebody waits for comes first", async () => {
  const output = await ends(`
    const cal = await startSandbox()
    const { accessToken } = await cal.connect("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    cal.inject(Fault.delayBefore("300 millis", { kind: "api" }))
    const { status } = await fetch(cal.url + "/v2/me", { headers: { authorization: "Bearer " + accessToken } })
    console.log(status)
  `)
  assert.strictEqual(output, "200\n")
})
