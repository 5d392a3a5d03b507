/** A person as Cal.com is to know them. */
import { Schema } from "effect"
import { text } from "./Values.js"

const isMetadata = (texts: ReadonlyArray<readonly [key: string, text: string]>) =>
  texts.length <= 50 && texts.every(([key, text]) => key.length <= 40 && text.length <= 500)

/** Cal.com judges the values; what is here only keeps nonsense and excess from it. */
export const person = {
  email: Schema.String.pipe(
    Schema.pattern(/^[^\s@]{1,64}@[^\s@]{1,189}$/),
    Schema.annotations({
      title: "an e-mail address",
      description: "Cal.com stores it with the client's id in it, and knows one managed user by it.",
      jsonSchema: { type: "string", format: "email", maxLength: 254 }
    })
  ),
  name: text(255, "Shown to people who book."),
  timeZone: Schema.optional(text(64, "An IANA time zone; Cal.com's default is Europe/London, without a schedule.")),
  timeFormat: Schema.optional(Schema.Literal(12, 24)),
  weekStart: Schema.optional(
    Schema.Literal("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
  ),
  locale: Schema.optional(text(16, "A language that Cal.com knows, such as `en` or `pt-BR`.")),
  avatarUrl: Schema.optional(text(2048, "An URL.")),
  bio: Schema.optional(text(5000, "Some words about the user.")),
  metadata: Schema.optional(
    Schema.Record({ key: Schema.String, value: Schema.String }).pipe(
      Schema.filter((texts) => isMetadata(Object.entries(texts)), {
        title: "an object of up to 50 texts of up to 500 characters, under keys of up to 40",
        description: "Up to 50 texts of up to 500 characters, under keys of up to 40."
      })
    )
  )
}
