/** What holds for the database where nobody says otherwise. */
import { Duration } from "effect"

/** At most so many connections. */
export const poolSize = 10

/** How long a statement may take. */
export const statementTimeout = Duration.seconds(5)

/** How long to wait for a connection, a free one or a new one. */
export const connectTimeout = Duration.seconds(5)

/** The age at which a connection is replaced. */
export const maxAge = Duration.seconds(60)

/** For how long a database that is not up yet is tried again while the layer is built. */
export const startWithin = Duration.zero
