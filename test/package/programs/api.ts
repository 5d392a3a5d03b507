/** `cal-tokens/api`, in browsers too: a derived client whose server is a function. */
import { Api, type Connection } from "cal-tokens/api"
import { HttpApiClient, HttpClient, HttpClientRequest, HttpClientResponse } from "@effect/platform"
import { DateTime, Effect } from "effect"

/** What a page does with answers has their types. */
const statusOf = ({ kind, status }: Connection) => `${kind} ${status}`

const server = HttpClient.make((request, url) =>
  Effect.sync(() => {
    const isEnsure = url.pathname === "/api/cal/ensure-token"
    const answer =
      isEnsure && request.headers["authorization"] === "Bearer key"
        ? Response.json({ success: true, expiresAt: "2026-01-15T12:00:00.000Z" })
        : Response.json({ success: false, error: "none", code: "TokensNotFound" }, { status: 404 })
    return HttpClientResponse.fromWeb(request, answer)
  })
)

const program = Effect.gen(function* () {
  const client = yield* HttpApiClient.make(Api, {
    baseUrl: "https://tokens.invalid",
    transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken("key"))
  })
  const userUlid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
  const { expiresAt } = yield* client.tokens.ensureToken({ payload: { userUlid } })
  const status = yield* client.connections.getConnection({ path: { userUlid } }).pipe(
    Effect.map(({ connection }) => statusOf(connection)),
    Effect.catchTag("TokensNotFound", ({ code, error }) => Effect.succeed(`${code} ${error}`))
  )
  return `${DateTime.formatIso(expiresAt)} ${status}`
}).pipe(Effect.provideService(HttpClient.HttpClient, server))

void Effect.runPromise(program).then((line) => console.log(line))
