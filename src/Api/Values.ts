/** Values that several endpoints take or give, as the documentation shows them. */
import { Schema } from "effect"

export const exampleUlid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

/** The UUID of the same 128 bits. */
const exampleUuid = "01563e3a-b5d3-d676-4c61-efb99302bd5b"

/** A user's ULID or UUID; either case names the same user. */
export const UserUlidInput = Schema.String.annotations({
  title: "a ULID or a UUID",
  description:
    "Your user, as a ULID (26 characters of Crockford base 32) or as a UUID, in either case. A UUID names the user of the " +
    "ULID with the same 128 bits, which is how answers, events and logs call them.",
  examples: [exampleUlid, exampleUuid]
})

/** A text that is kept or passed on as it is. */
export const text = (maximum: number, description: string) =>
  Schema.String.pipe(
    Schema.filter((value) => value.length >= 1 && value.length <= maximum, {
      title: `a text of 1 to ${maximum} characters`,
      description,
      jsonSchema: { type: "string", minLength: 1, maxLength: maximum, description }
    })
  )

/** A client, where several are configured. */
export const ClientId = text(
  128,
  "Which of the configured clients: by default the one of the environment, or the only one of its kind. Needed where " +
    "`CAL_TOKENS_CLIENTS_FILE` has several."
)

/** An instant in answers. */
export const Instant = Schema.DateTimeUtc.annotations({
  jsonSchema: {
    type: "string",
    format: "date-time",
    description: "ISO 8601 in UTC.",
    examples: ["2026-01-15T13:00:00.000Z"]
  }
})

/** An expiry as people hand it in. */
export const InstantInput = Schema.Union(Schema.Number, Schema.String).annotations({
  title: "number | string",
  description: "Milliseconds since 1970 (not seconds), or ISO 8601 with a zone; within two years of now.",
  examples: [1768482000000, "2026-01-15T13:00:00Z"]
})

export const Success = Schema.Literal(true)

/** The answer where there is nothing to tell. */
export const Done = Schema.Struct({ success: Success })

/** How many connections a page holds, unless the caller says otherwise, and at most. */
export const pageSize = { default: 50, maximum: 200 } as const
