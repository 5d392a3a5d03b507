/** What a request is for, to tell token traffic from the rest. */
import { Schema } from "effect"

/**
 * What a request is for.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Kind = Schema.Literal(
  "createManaged",
  "managedUser",
  "refresh",
  "forceRefresh",
  "exchange",
  "oauth2Code",
  "oauth2Refresh",
  /** A token request that names no known grant type. */
  "oauth2Token",
  "authorize",
  "provider",
  "api",
  "unknown"
)
export type Kind = typeof Kind.Type

/** The requests that bring a managed user's pair, and those that bring an OAuth2 pair. */
export const managedGrants: ReadonlyArray<Kind> = ["refresh", "forceRefresh", "createManaged"]
export const oauth2Grants: ReadonlyArray<Kind> = ["oauth2Refresh", "oauth2Code"]
