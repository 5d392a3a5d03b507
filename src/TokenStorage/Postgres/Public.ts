/**
 * Tokens and flows on PostgreSQL, for a program that wires its layers itself. This is `cal-tokens/postgres`.
 *
 * ```ts
 * Layer.merge(Postgres.layer({ listenUrl: url }), Postgres.layerFlows()).pipe(
 *   Layer.provide(Postgres.layerConnection({ url })),
 *   Layer.provideMerge(KeyRing.layer(keys))
 * )
 * ```
 */
export { type ConnectionOptions, layer, layerConnection, make, type Options } from "../Postgres.js"
export type { Options as FlowOptions } from "./Call.js"
export { layer as layerFlows, make as makeFlows } from "./Flows.js"
export * as KeyRing from "../../KeyRing.js"
