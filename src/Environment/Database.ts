/** Where tokens are kept, by the variables of the database. */
import { join } from "node:path"
import { type ConfigError, Data, type Duration, Either, Option, type Redacted } from "effect"
import * as Form from "./Form.js"
import * as Variable from "./Variable.js"
import { all, type Values } from "./Variables.js"

/** Where tokens are kept. */
export type Database = Data.TaggedEnum<{
  /** PGlite in this process, in a directory of its own per kind of Cal.com. */
  Embedded: {
    readonly directory: string
    /** None: one is made and kept beside the data. */
    readonly encryptionKeys: Option.Option<Redacted.Redacted>
  }
  Postgres: {
    readonly url: Redacted.Redacted
    /** Past a pooler, to hear of other processes' writes; none: `url` will do. */
    readonly directUrl: Option.Option<Redacted.Redacted>
    readonly encryptionKeys: Redacted.Redacted
    readonly poolSize: number
    readonly statementTimeout: Duration.Duration
    readonly connectTimeout: Duration.Duration
  }
}>
export const Database = Data.taggedEnum<Database>()

export type Embedded = Extract<Database, { readonly _tag: "Embedded" }>
export type Postgres = Extract<Database, { readonly _tag: "Postgres" }>

/** One in the directory for data, or below it. */
export const embedded = (it: Values, ...below: ReadonlyArray<string>): Embedded =>
  Database.Embedded({
    directory: join(it.CAL_TOKENS_DATA_DIR, ...below),
    encryptionKeys: it.CAL_TOKENS_ENCRYPTION_KEYS
  })

/** The one of users of a real Cal.com. */
export const judge = (it: Values): Either.Either<Database, ConfigError.ConfigError> => {
  if (Option.isNone(it.DATABASE_URL)) return Either.right(embedded(it))
  if (Option.isNone(it.CAL_TOKENS_ENCRYPTION_KEYS)) {
    return Variable.missing(
      all.CAL_TOKENS_ENCRYPTION_KEYS.name,
      "with DATABASE_URL",
      `${Form.encryptionKeys.expected}, for example k1:$(openssl rand -base64 32)`
    )
  }
  return Either.right(
    Database.Postgres({
      url: it.DATABASE_URL.value,
      directUrl: it.DATABASE_DIRECT_URL,
      encryptionKeys: it.CAL_TOKENS_ENCRYPTION_KEYS.value,
      poolSize: it.DATABASE_POOL_SIZE,
      statementTimeout: it.DATABASE_STATEMENT_TIMEOUT,
      connectTimeout: it.DATABASE_CONNECT_TIMEOUT
    })
  )
}
