/**
 * The HTTP service for a program that embeds it: its layer, the server, and what the program around it decides. This is
 * `cal-tokens/http`.
 */
export * as ApiKeys from "../ApiKeys.js"
export * from "../Http.js"
export * as Access from "./Access.js"
export { AtomsSession } from "./Atoms.js"
export { MaxAge as AtomsMaxAge } from "./AtomsTokens.js"
export { Audit, audit, type Event as AuditEvent, type Fields as AuditFields, name as auditLogger } from "./Audit.js"
export * as CallerLimits from "./CallerLimits.js"
export { TrustedProxies } from "./ClientAddress.js"
export { Development } from "./Edge.js"
export { AllowedOrigins } from "./Origins.js"
export * as Lifecycle from "./Lifecycle.js"
export * as Server from "./Server.js"
