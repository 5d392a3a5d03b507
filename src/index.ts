/**
 * The library. What needs a driver, a database or a server of its own stands behind a subpath instead:
 * `cal-tokens/TokenStorage/Postgres`, `cal-tokens/CalHttp/Node`, `cal-tokens/Embedded`, `cal-tokens/Http`.
 */
export * as Actions from "./Actions.js"
export * as Api from "./Api.js"
export * as CalApi from "./CalApi.js"
export * as CalClient from "./CalClient.js"
export * as CalTokens from "./CalTokens.js"
export * as ConnectFlow from "./ConnectFlow.js"
export * as ManagedUsers from "./ManagedUsers.js"
export * as Revalidation from "./Revalidation.js"
export * as Sandbox from "./Sandbox.js"
export * as Sessions from "./Sessions.js"
export * as Token from "./Token.js"
export * as TokenConfig from "./TokenConfig.js"
export * as TokenError from "./TokenError.js"
export * as TokenInput from "./TokenInput.js"
export * as TokenStorage from "./TokenStorage/Public.js"
export * as Webhook from "./Webhook.js"
