/**
 * The library: what a program asks for, and the ports that one wires by hand. What needs a driver, a database, a server or
 * another dependency has a subpath of its own: `cal-tokens/node`, `/postgres`, `/embedded`, `/http`, `/actions`, `/api`,
 * `/sandbox`.
 */
export * as CalApi from "./CalApi.js"
export * as CalClient from "./CalClient.js"
export * as CalTokens from "./CalTokens.js"
export * as ConnectFlow from "./ConnectFlow.js"
export * as Explain from "./Explain.js"
export * as FlowStorage from "./FlowStorage.js"
export * as History from "./History.js"
export * as HttpClients from "./CalHttp/HttpClients.js"
export * as KeyRing from "./KeyRing.js"
export * as ManagedUsers from "./ManagedUsers.js"
export * as RefreshAhead from "./RefreshAhead.js"
export * as Revalidation from "./Revalidation.js"
export * as Sessions from "./Sessions.js"
export * as Token from "./Token.js"
export * as TokenConfig from "./TokenConfig.js"
export * as TokenError from "./TokenError.js"
export * as TokenInput from "./TokenInput.js"
export * as TokenStorage from "./TokenStorage/Public.js"
export * as Webhook from "./Webhook.js"
