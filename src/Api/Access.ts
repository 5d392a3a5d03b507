/** Who may call what: an API key as a bearer token, with scopes. */
import { HttpApiMiddleware, HttpApiSecurity, OpenApi } from "@effect/platform"
import { Context } from "effect"
import type { Limits, Scope } from "../ApiKeys/Scope.js"
import { AccessFailure } from "./Failure.js"

/** Who calls: the name of an API key, fit for logs, and what it is for. */
export class Caller extends Context.Tag("cal-tokens/Api/Caller")<
  Caller,
  { readonly name: string; readonly scopes: ReadonlySet<Scope> } & Limits
>() {}

const bearer = HttpApiSecurity.bearer.pipe(
  HttpApiSecurity.annotate(
    OpenApi.Description,
    "An API key of this service, not a Cal.com token. Each operation names the scope that the key needs."
  )
)

/** Lets requests pass whose API key has the scope `manage`. The documentation takes the scope from the key here. */
export class Manage extends HttpApiMiddleware.Tag<Manage>()("cal-tokens/Api/Manage", {
  failure: AccessFailure,
  provides: Caller,
  security: { manage: bearer }
}) {}

/** Lets requests pass whose API key has the scope `read-token`. */
export class ReadToken extends HttpApiMiddleware.Tag<ReadToken>()("cal-tokens/Api/ReadToken", {
  failure: AccessFailure,
  provides: Caller,
  security: { "read-token": bearer }
}) {}

/** Lets requests pass whose API key has the scope `metrics`. */
export class ReadMetrics extends HttpApiMiddleware.Tag<ReadMetrics>()("cal-tokens/Api/ReadMetrics", {
  failure: AccessFailure,
  provides: Caller,
  security: { metrics: bearer }
}) {}
