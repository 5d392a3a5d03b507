/** How the driver calls the functions in the database: texts that are made once, and the storage's instant. */
import { SqlClient } from "@effect/sql"
import { Duration, Effect, type Scope } from "effect"
import type { StorageUnavailable } from "../../TokenError.js"
import * as Defaults from "./Defaults.js"
import * as Functions from "./Functions.js"
import * as Pool from "./Pool.js"
import * as Sql from "./Sql.js"

/**
 * How statements are run.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /**
   * Whose time judges leases and cooldowns: the database's, which is one for all processes, or Effect's, so that a
   * `TestClock` governs. Default `database`.
   */
  readonly clock?: "database" | "effect" | undefined
  /** How long a call waits for the database at most, the wait for a connection included. Default 5 s. */
  readonly statementTimeout?: Duration.DurationInput | undefined
}

/**
 * Calls one function. Its last parameter may be the storage's instant: that of the database, unless Effect's counts. `passed`: so
 * long its caller has waited already, in ms.
 */
export type CallOf<A> = (
  parameters: ReadonlyArray<unknown>,
  instant?: "now",
  passed?: number
) => Effect.Effect<ReadonlyArray<A>, StorageUnavailable>

/** `operation` names the call in errors and spans. */
export type Call = <A extends object>(operation: string, name: string) => CallOf<A>

/** The same for a statement that is no function; its parameters stand in it as `$1` and so on. */
export interface Driver {
  readonly call: Call
  readonly statement: <A extends object>(operation: string, text: string) => CallOf<A>
}

/** Statements end with the scope at the latest. */
export const make = (options: Options): Effect.Effect<Driver, never, SqlClient.SqlClient | Scope.Scope> =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const ask = Pool.askOf(sql)
    const asking = yield* ask === undefined
      ? Effect.map(
          Sql.make,
          (run): Sql.Asking =>
            <A>(text: string, parameters: ReadonlyArray<unknown>, options: Sql.RunOptions) =>
              run(sql.unsafe<A & object>(text, parameters), options)
        )
      : Sql.makeAsking(ask)
    const timeout = Duration.decode(options.statementTimeout ?? Defaults.statementTimeout)
    const instantOf = options.clock === "effect" ? (now: number): number | null => Math.floor(now) : () => null

    const statement: Driver["statement"] = <A extends object>(operation: string, text: string): CallOf<A> => {
      const whole: Sql.RunOptions = { operation, timeout }
      return (parameters, instant, passed) => {
        const runOptions = passed === undefined ? whole : { ...whole, passed }
        return instant === undefined
          ? asking<A>(text, parameters, runOptions)
          : Effect.clockWith((clock) =>
              asking<A>(text, [...parameters, instantOf(clock.unsafeCurrentTimeMillis())], runOptions)
            )
      }
    }
    return { statement, call: (operation, name) => statement(operation, Functions.call(name)) }
  })
