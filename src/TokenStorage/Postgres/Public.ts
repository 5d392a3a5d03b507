/**
 * Tokens and flows on PostgreSQL, for a program that wires its layers itself. This is `cal-tokens/postgres`.
 *
 * ```ts
 * import * as Postgres from "cal-tokens/postgres"
 * import { Layer, type Redacted } from "effect"
 *
 * export const storages = (url: Redacted.Redacted, keys: Redacted.Redacted) =>
 *   Layer.merge(Postgres.layer({ listenUrl: url }), Postgres.layerFlows()).pipe(
 *     Layer.provide(Postgres.layerConnection({ url })),
 *     Layer.provideMerge(Postgres.KeyRing.layer(keys))
 *   )
 * ```
 */
export { type ConnectionOptions, layer, layerConnection, make, type Options } from "../Postgres.js"
export type { Options as FlowOptions } from "./Call.js"
export { layer as layerFlows, make as makeFlows } from "./Flows.js"
export * as KeyRing from "../../KeyRing.js"
