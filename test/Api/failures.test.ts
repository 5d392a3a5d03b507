/** What each operation may answer is what the function behind it may fail with: no more and no less. Checked by the compiler. */
import type { HttpApiEndpoint, HttpApiGroup } from "@effect/platform"
import { describe, it } from "@effect/vitest"
import type { Effect } from "effect"
import { expectTypeOf } from "vitest"
import type { Api } from "../../src/Api.js"
import type { CalTokens } from "../../src/CalTokens.js"
import type { ConnectFlow } from "../../src/ConnectFlow.js"
import type { ManagedUsers } from "../../src/ManagedUsers.js"
import type { Sessions } from "../../src/Sessions.js"
import type { NotManagedUser } from "../../src/TokenError.js"

type Groups = (typeof Api)["groups"][string]

/** What an endpoint of this name answers, or all of its group. */
type ErrorOf<Group, Name extends string> = Group extends HttpApiGroup.HttpApiGroup.Any
  ? Name extends HttpApiEndpoint.HttpApiEndpoint.Name<HttpApiGroup.HttpApiGroup.Endpoints<Group>>
    ? | HttpApiGroup.HttpApiGroup.Error<Group>
      | HttpApiEndpoint.HttpApiEndpoint.Error<
          HttpApiEndpoint.HttpApiEndpoint.WithName<HttpApiGroup.HttpApiGroup.Endpoints<Group>, Name>
        >
    : never
  : never

/** What any request with an input, a key and a database may meet, whatever it asks for. */
type Common =
  | "HttpApiDecodeError"
  | "InvalidInput"
  | "PayloadTooLarge"
  | "StorageUnavailable"
  | "Unauthorized"
  | "Forbidden"
  | "RateLimited"

type Tag<E> = E extends { readonly _tag: infer T } ? Exclude<T, Common> : never

type Answers<Name extends string> = Tag<ErrorOf<Groups, Name>>

type Fails<Method extends (...args: never) => Effect.Effect<unknown, unknown>> = Tag<
  Effect.Effect.Error<ReturnType<Method>>
>

type Tokens = (typeof CalTokens)["Service"]
type Flow = (typeof ConnectFlow)["Service"]

describe("an operation", () => {
  it("answers what its function fails with", () => {
    expectTypeOf<Answers<"ensureToken">>().toEqualTypeOf<Fails<Tokens["ensureValid"]>>()
    expectTypeOf<Answers<"getAccessToken">>().toEqualTypeOf<Fails<Tokens["ensureValid"]>>()
    expectTypeOf<Answers<"refreshToken">>().toEqualTypeOf<Exclude<Fails<Tokens["refresh"]>, "NotManagedUser">>()
    expectTypeOf<Answers<"refreshManagedUserToken">>().toEqualTypeOf<Fails<Tokens["refresh"]> | Tag<NotManagedUser>>()
    expectTypeOf<Answers<"getConnection">>().toEqualTypeOf<Fails<Tokens["info"]>>()
    expectTypeOf<Answers<"putConnection">>().toEqualTypeOf<Fails<Tokens["connect"]>>()
    expectTypeOf<Answers<"deleteConnection">>().toEqualTypeOf<Fails<Tokens["disconnect"]>>()
    expectTypeOf<Answers<"createManagedUser">>().toEqualTypeOf<Fails<(typeof ManagedUsers)["Service"]["create"]>>()
    expectTypeOf<Answers<"authorizeUrl">>().toEqualTypeOf<Fails<Flow["begin"]>>()
    expectTypeOf<Answers<"exchangeCode">>().toEqualTypeOf<Fails<Flow["exchange"]>>()
    expectTypeOf<Answers<"confirmCompletion">>().toEqualTypeOf<Fails<Flow["confirm"]>>()
    expectTypeOf<Answers<"createSession">>().toEqualTypeOf<Fails<(typeof Sessions)["Service"]["create"]>>()
    expectTypeOf<Answers<"deleteSessions">>().toEqualTypeOf<Fails<(typeof Sessions)["Service"]["endAll"]>>()
    expectTypeOf<Answers<"listConnections">>().toEqualTypeOf<never>()
  })
})
