/** Where connections go: into the database of the service, or over HTTP to a service that runs. */
import { HttpBody, HttpClient, HttpClientRequest, type HttpClientResponse } from "@effect/platform"
import { Data, Duration, Effect, Layer, Option, Redacted, Schedule, Schema } from "effect"
import { ImportedConnection } from "../../Api/Connections.js"
import { ApiHttp } from "../../CalHttp/HttpClients.js"
import * as NodeHttp from "../../CalHttp/Node.js"
import { Proxies } from "../../CalHttp/Proxies.js"
import { CalTokens, type ImportedRow, type ImportRow } from "../../CalTokens.js"
import { StartError } from "../../Environment.js"
import { UserUlid } from "../../Token.js"

/** Takes a batch, and answers for each of its rows in their order. */
export interface Target {
  /** Their users are ULIDs by now. */
  readonly write: (rows: ReadonlyArray<ImportRow>) => Effect.Effect<ReadonlyArray<ImportedRow>, StartError>
}

/** The last answer may have been lost, or the other side is away for a moment: the same rows may be given again. */
class Away extends Data.TaggedError("Away")<{
  readonly message: string
  readonly retryAfter?: Duration.Duration | undefined
}> {}

/** Half a minute in all, unless the other side asks for more. */
const patiently = <A>(work: Effect.Effect<A, Away | StartError>): Effect.Effect<A, StartError> =>
  work.pipe(
    Effect.tapErrorTag("Away", ({ retryAfter = Duration.zero }) => Effect.sleep(Duration.min(retryAfter, "2 minutes"))),
    Effect.retry({
      schedule: Schedule.intersect(Schedule.exponential("500 millis"), Schedule.recurs(6)),
      while: (error) => error._tag === "Away"
    }),
    Effect.catchTag("Away", ({ message }) => new StartError({ message }))
  )

/** By the product in this process. */
export const database: Effect.Effect<Target, never, CalTokens> = Effect.map(CalTokens, (tokens) => ({
  write: (rows) =>
    patiently(
      tokens.importConnections(rows).pipe(
        Effect.catchTags({
          StorageUnavailable: ({ message }) => new Away({ message }),
          InvalidInput: ({ message }) => new StartError({ message })
        })
      )
    )
}))

const Answer = Schema.Struct({ results: Schema.Array(ImportedConnection) })

const Failure = Schema.Struct({ error: Schema.String })

/** A service takes bodies of 1 MiB. */
const maxBytes = 1024 * 1024 - 1024

export const overHttp = (
  url: string,
  key: Redacted.Redacted
): Effect.Effect<Target & { readonly reach: Effect.Effect<void, StartError> }, never, ApiHttp> =>
  Effect.map(ApiHttp, (http) => {
    const client = http.pipe(
      HttpClient.mapRequest(HttpClientRequest.bearerToken(key)),
      HttpClient.withTracerPropagation(false)
    )

    const ask = <A, I>(request: HttpClientRequest.HttpClientRequest, schema: Schema.Schema<A, I>) =>
      client.execute(request).pipe(
        Effect.catchTags({
          RequestError: () => new Away({ message: `${url} cannot be reached` }),
          ResponseError: () => new Away({ message: `${url} broke off its answer` })
        }),
        Effect.flatMap((response) => read(url, response, schema)),
        Effect.scoped,
        Effect.timeoutFail({ duration: "1 minute", onTimeout: () => new Away({ message: `${url} does not answer` }) }),
        patiently
      )

    const write: Target["write"] = (rows) => {
      const body = bodyOf(rows)
      // Tokens of an odd length: as many requests as it takes.
      if (body.byteLength > maxBytes && rows.length > 1) {
        const half = Math.ceil(rows.length / 2)
        return Effect.zipWith(write(rows.slice(0, half)), write(rows.slice(half)), (one, other) => [...one, ...other])
      }
      const request = HttpClientRequest.put(`${url}/api/cal/connections`, {
        body: HttpBody.uint8Array(body, "application/json")
      })
      return Effect.flatMap(ask(request, Answer), ({ results }) =>
        results.length === rows.length
          ? Effect.succeed(
              results.map(({ outcome, reason = "no reason was given" }, index): ImportedRow =>
                outcome === "rejected"
                  ? { outcome, reason }
                  : { outcome, userUlid: UserUlid.make(rows[index]?.userUlid ?? "") }
              )
            )
          : new StartError({ message: `${url} answered for ${results.length} of ${rows.length} rows` })
      )
    }

    return {
      write,
      /** Whether the service is there and takes the key. */
      reach: Effect.asVoid(ask(HttpClientRequest.get(`${url}/api/cal/connections?limit=1`), Schema.Unknown))
    }
  })

const bodyOf = (rows: ReadonlyArray<ImportRow>): Uint8Array =>
  new TextEncoder().encode(
    JSON.stringify({
      connections: rows.map(({ connection: { _tag, ...account }, tokens, userUlid }) => ({
        userUlid,
        kind: _tag === "ManagedUser" ? "managed" : "oauth2",
        ...account,
        ...tokens,
        accessToken: textOf(tokens.accessToken),
        refreshToken: textOf(tokens.refreshToken)
      }))
    })
  )

const textOf = (token: string | Redacted.Redacted) => (typeof token === "string" ? token : Redacted.value(token))

/** Of an answer that is none of a service's nothing is told but its status. */
const read = <A, I>(
  url: string,
  response: HttpClientResponse.HttpClientResponse,
  schema: Schema.Schema<A, I>
): Effect.Effect<A, Away | StartError> =>
  Effect.gen(function* () {
    const { headers, status } = response
    const body = yield* Effect.mapError(response.text, () => new Away({ message: `${url} broke off its answer` }))
    if (status === 200) {
      return yield* Effect.mapError(
        Schema.decode(Schema.parseJson(schema))(body),
        () => new StartError({ message: `${url} does not answer as cal-tokens does: is it the address of a service?` })
      )
    }
    const said = Option.map(Schema.decodeOption(Schema.parseJson(Failure))(body), ({ error }) => `: ${error}`)
    const message = `${url} answered ${status}${Option.getOrElse(said, () => "")}`
    if (status === 401 || status === 403) {
      return yield* new StartError({ message: `${message} (CAL_TOKENS_API_KEY has to be a key with the scope manage)` })
    }
    if (status !== 429 && status < 500) return yield* new StartError({ message })
    const seconds = Number(headers["retry-after"] ?? 0)
    return yield* new Away({
      message,
      retryAfter: Number.isFinite(seconds) && seconds > 0 ? Duration.seconds(seconds) : undefined
    })
  })

/** What {@link overHttp} needs. */
export const layerHttp = (proxies: Proxies["Type"]): Layer.Layer<ApiHttp> =>
  Layer.provide(NodeHttp.layerApiHttp, Layer.succeed(Proxies, proxies))
