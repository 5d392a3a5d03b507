/** What happens to users' tokens, in whichever process, as server-sent events. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { QueryFailure } from "./Failure.js"

const lastEventId = (description: string) =>
  Schema.optional(Schema.String.annotations({ title: "the id of an event", description }))

const EventStream = Schema.String.pipe(
  HttpApiSchema.withEncoding({ kind: "Text", contentType: "text/event-stream" }),
  Schema.annotations({ description: "Server-sent events, until the client or this process ends them." })
)

/**
 * What happens, as server-sent events.
 *
 * @since 0.1.0
 * @category api
 */
export class EventsApi extends HttpApiGroup.make("events")
  .add(
    HttpApiEndpoint.get("streamEvents", "/events")
      .setUrlParams(Schema.Struct({ lastEventId: lastEventId("`Last-Event-ID` for clients that cannot set headers.") }))
      .setHeaders(
        Schema.Struct({
          "last-event-id": lastEventId("Begins after this event, as long as it is not older than 24 hours.")
        })
      )
      .addSuccess(EventStream)
      .annotate(OpenApi.Summary, "Follow changes of tokens")
      .annotate(
        OpenApi.Description,
        "Tells of every change, made by whichever process, from now on or from `Last-Event-ID` on. `event` is `connected`, " +
          "`updated`, `refreshed`, `reissued`, `disconnected`, `reauthorizationRequired` or `reauthorized`; `data` is JSON: " +
          "`userUlid`, `kind`, `at`, `version` (not of `disconnected`), `cause` and `since` (of `reauthorizationRequired`), " +
          "and `reauthorized: true` where the change ended the need to reconnect. No tokens. `event: reset` means that " +
          "events are missing before it: forget what you know. An event may come twice. Comments and ids without " +
          "data come every 15 seconds; reconnect when they stop."
      )
  )
  .addError(QueryFailure)
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "What happens to users' tokens. No token is in any event.") {}
