/** How the whole service stands: what a page for its operators shows, and a script that watches it may ask for. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Manage } from "./Access.js"
import { Kind } from "./Connections.js"
import { QueryFailure } from "./Failure.js"
import { Instant, Success } from "./Values.js"

const count = (description: string) =>
  Schema.Int.annotations({ description, jsonSchema: { type: "integer", minimum: 0 } })
const time = (description: string) => Schema.Number.annotations({ description })

const triggers = {
  asked: count("Somebody asked for the token."),
  refused: count("Cal.com refused the access token before its time."),
  ahead: count("Nobody waited."),
  reissue: count("Cal.com was asked for a new pair with the client's secret.")
}

const percentiles = {
  p50: time("Half of them took no longer, in milliseconds, to within 4 %."),
  p95: time("The same of 95 of 100."),
  p99: time("The same of 99 of 100.")
}

const RefreshMinute = Schema.Struct({
  at: Instant.annotations({ description: "When the minute began, by the storage's clock." }),
  refreshed: Schema.Struct(triggers).annotations({ description: "Attempts that brought a pair, by what began them." }),
  failed: Schema.Struct({
    ...triggers,
    lapsed: count("Their process never ended them; what began them is not known.")
  }).annotations({ description: "Attempts that ended without a pair, by what began them." }),
  reauthorizationRequired: count("How many of those that failed ended so that a person has to reconnect."),
  reasons: Schema.Array(
    Schema.Struct({
      answer: Schema.Literal(
        ...(["rejected", "notSpent", "unknown", "unreadable", "clientWide", "userGone", "unsent", "lapsed"] as const)
      ).annotations({
        description:
          "What came of the last call: Cal.com refused the refresh token, did not take it, gave no answer that tells or " +
          "one that cannot be read, refused the client, or has no such managed user. `unsent`: there was no call. " +
          "`lapsed`: the process never told."
      }),
      status: Schema.optional(Schema.Int.annotations({ description: "Of Cal.com's answer, where there was one." })),
      error: Schema.optional(Schema.String.annotations({ description: "Which error that became." })),
      count: count("How many of those that failed.")
    })
  ).annotations({ description: "Why those that failed did: what was so most often first." }),
  latency: Schema.optional(
    Schema.Struct(percentiles).annotations({
      description: "From the claim to the end, of those that brought a pair; absent where there are none."
    })
  )
})

/**
 * How the service stands.
 *
 * @since 0.1.0
 * @category schemas
 */
export const Overview = Schema.Struct({
  at: Instant.annotations({ description: "When this was read, by this process's clock: up to some seconds ago." }),
  process: Schema.Struct({
    name: Schema.String.annotations({ description: "What histories and logs call the process that answers." }),
    startedAt: Instant,
    version: Schema.String.annotations({ description: "Of this package." })
  }),
  users: Schema.Struct({
    active: count("Whose tokens are kept valid."),
    reauthorizationRequired: count("Who has to reconnect."),
    isEstimated: Schema.Boolean.annotations({
      description: "There are 10,000 or more: the database's own estimate stands for a count."
    })
  }),
  refreshes: Schema.Struct({
    minutes: Schema.Array(RefreshMinute).annotations({
      description: "The last 60 minutes, the oldest first; the last one is still running."
    }),
    latency: Schema.optional(
      Schema.Struct({ ...percentiles, max: time("The longest, in milliseconds.") }).annotations({
        description: "Of the whole hour."
      })
    )
  }).annotations({
    description: "Of all processes, by users' histories. Those of users who were disconnected may be missing."
  }),
  expiries: Schema.Struct({
    overdue: count("Active users whose access token has ended by now: it is refreshed when somebody asks."),
    minutes: Schema.Array(Schema.Struct({ at: Instant, users: count("Whose access token ends in that minute.") }))
  }).annotations({
    description: "When active users' access tokens end, in the 60 minutes from the running one on, in Cal.com's time."
  }),
  budgets: Schema.Array(
    Schema.Struct({
      kind: Kind,
      clientId: Schema.String,
      limit: count("Calls that Cal.com allows the client in one of its windows."),
      remaining: count("How many of them are left, as far as this process was told."),
      resetsAt: Schema.optional(Instant.annotations({ description: "When the window ends, while it lasts." })),
      minutes: Schema.Array(Schema.Struct({ at: Instant, remaining: count("The least in that minute.") })).annotations({
        description: "Those of the last 60 minutes in which Cal.com answered this process, the oldest first."
      })
    })
  ).annotations({ description: "What Cal.com's rate limit leaves, as its answers to this process said." }),
  circuits: Schema.Array(
    Schema.Struct({
      cause: Schema.Literal("client", "brake", "drift", "process").annotations({
        description:
          "Cal.com refuses the client, refused many users at once, or answers in a way that nobody understands; or " +
          "something is wrong with this process alone."
      }),
      clientId: Schema.optional(Schema.String),
      reason: Schema.optional(Schema.String.annotations({ description: "For people." })),
      openedAt: Schema.optional(Instant),
      nextTrialAt: Schema.optional(Instant)
    })
  ).annotations({ description: "Circuits that are open: of these clients nobody is refreshed but for trials." }),
  sealedAnswers: count(
    "Answers of Cal.com that nobody could read, kept for a version that can; 10,000 stand for more."
  ),
  pairsHeld: count("Pairs that could not be stored yet and exist in this process's memory only.")
}).annotations({ identifier: "Overview" })
export type Overview = typeof Overview.Type

/**
 * How the whole service stands.
 *
 * @since 0.1.0
 * @category api
 */
export class OverviewApi extends HttpApiGroup.make("overview")
  .add(
    HttpApiEndpoint.get("getOverview", "/overview")
      .addSuccess(Schema.Struct({ success: Success, overview: Overview }))
      .addError(QueryFailure)
      .annotate(OpenApi.Summary, "Look at the whole service")
      .annotate(
        OpenApi.Description,
        "Users by status, refreshes and failures by the minute, whose token ends when, Cal.com's rate limit, and what is " +
          "wrong. One reading of the database serves all who ask within a second; a big one serves them longer. No tokens, " +
          "and no user by name."
      )
  )
  .middleware(Manage)
  .prefix("/api/cal")
  .annotate(OpenApi.Description, "How the whole service stands. No token is in it.") {}
