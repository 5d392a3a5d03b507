/** What an API key may do. A leaf, for browsers load the API value that speaks of it. */
import { Schema } from "effect"

/**
 * `read-token` hands out tokens, so no key has it unless that is said.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Scope = Schema.Literal("manage", "read-token", "proxy", "metrics")
export type Scope = typeof Scope.Type
