/** The endpoint of `Api/Events`: changes of tokens as server-sent events. */
import { Sse } from "@effect/experimental"
import { HttpServerResponse } from "@effect/platform"
import { Duration, Effect, Option, Stream } from "effect"
import * as Failure from "../Api/Failure.js"
import type { LoggedChange } from "../TokenStorage/ChangeLog.js"
import * as Edge from "./Edge.js"
import * as Group from "./Group.js"
import { iso } from "../Token.js"
import * as EventFeed from "./EventFeed.js"
import { Lifecycle } from "./Lifecycle.js"
import * as Relay from "./Relay.js"

/** After which clients that lost their stream come back. */
const retry = Duration.seconds(2)

export const layer = Group.make("events", (handlers) =>
  Effect.map(EventFeed.make, (feed) =>
    handlers.handleRaw("streamEvents", ({ headers, request, urlParams }) =>
      Effect.gen(function* () {
        yield* Edge.operation("events")
        if (!(yield* feed.enter)) return yield* Edge.decline(full)
        const last = Option.fromNullable(headers["last-event-id"] ?? urlParams.lastEventId)
        const items = yield* Edge.refuseAll(feed.follow(Option.filter(last, (id) => id !== "")))
        const events = Stream.make(Sse.encoder.write(new Sse.Retry({ duration: retry, lastEventId: undefined }))).pipe(
          Stream.concat(Stream.map(items, write)),
          Stream.encodeText
        )
        return HttpServerResponse.stream(yield* Relay.endingWithProcess(request, events, yield* Lifecycle), {
          contentType: "text/event-stream",
          headers: { "x-accel-buffering": "no" }
        })
      })
    )
  )
)

const full = Failure.service("RateLimited", "Too many event streams are open here: try again in 5 s.", 5)

const write = (item: EventFeed.Item): string => {
  switch (item._tag) {
    case "Change":
      return event(item.change.kind, item.change.position, dataOf(item.change))
    case "Reset":
      return event("reset", item.position, { reset: true })
    case "Rest":
      // An id without data is no event, but where the client goes on from when it comes back.
      return `: nothing new\nid: ${item.position}\n\n`
  }
}

const event = (event: string, id: string, data: object) =>
  Sse.encoder.write({ _tag: "Event", event, id, data: JSON.stringify(data) })

const dataOf = ({ at, cause, kind, reauthorized, since, userUlid, version }: LoggedChange) => ({
  userUlid,
  kind,
  at: iso(at),
  version,
  cause,
  since: since === undefined ? undefined : iso(since),
  reauthorized: reauthorized ? true : undefined
})
