/** What the promise door's types take and give. Checked by the compiler. */
import { describe, expectTypeOf, it } from "vitest"
import { Layer } from "effect"
import type * as Actions from "../../src/Actions.js"
import type { CalApi } from "../../src/CalApi.js"
import type { CalTokens } from "../../src/CalTokens.js"
import type * as TokenConfig from "../../src/TokenConfig.js"

type Answer<Name extends keyof Actions.Actions> = Actions.Actions[Name] extends (...args: never) => Promise<infer A>
  ? A
  : never

/** Those that answer an object which says whether it succeeded. */
type Saying = Exclude<
  keyof Actions.Actions,
  "makeCalApiRequest" | "handleCalApiResponse" | "isTokenExpiredOrExpiringSoon" | "isFailure" | "dispose"
>

describe("types of the promise door", () => {
  it("tell a failure from a success by one look", () => {
    expectTypeOf<Extract<Answer<Saying>, { readonly success: false }>>().toEqualTypeOf<Actions.Failure>()
    expectTypeOf<Exclude<Answer<Saying>, { readonly success: true }>>().toEqualTypeOf<Actions.Failure>()
    expectTypeOf<Actions.Failure["httpStatus"]>().toEqualTypeOf<number>()
    expectTypeOf<Extract<Answer<"exchangeCalCode">, { success: true }>["calUserId"]>().toEqualTypeOf<number | null>()
    expectTypeOf<Extract<Answer<"createManagedCalUser">, { success: true }>["calUserId"]>().toEqualTypeOf<number>()
  })

  it("ask for a managed user's Cal.com id, and leave it out for OAuth2", () => {
    expectTypeOf<{ kind: "oauth2" }>().toExtend<Actions.CalAccount>()
    expectTypeOf<{ kind: "managed"; calUserId: number }>().toExtend<Actions.CalAccount>()
    expectTypeOf<{ kind: "managed" }>().not.toExtend<Actions.CalAccount>()
    expectTypeOf<{ kind: "managed"; calUserId: string }>().not.toExtend<Actions.CalAccount>()
  })

  it("have every number of the rules, in plain units", () => {
    expectTypeOf<keyof Actions.Config>().toEqualTypeOf<keyof TokenConfig.Options>()
    expectTypeOf<{
      cooldownWindow: "30 seconds"
      lease: 30_000
      windows: { soon: "4 minutes" }
    }>().toExtend<Actions.Config>()
    expectTypeOf<{ cooldownWindow: "soon" }>().not.toExtend<Actions.Config>()
    expectTypeOf<{ maxAttempts: "3" }>().not.toExtend<Actions.Config>()
  })

  it("take a layer that has no more than tokens and requests, and no less", () => {
    const tokens = Layer.empty as unknown as Layer.Layer<CalTokens>
    expectTypeOf<Layer.Layer<CalTokens | CalApi>>().toExtend<Actions.Options["layer"]>()
    expectTypeOf(tokens).not.toExtend<Actions.Options["layer"]>()
  })
})
