/** For load balancers and orchestrators; without an API key, so the answers tell nothing else but to those who have one. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { Schema } from "effect"

const Healthy = Schema.Struct({ status: Schema.Literal("ok") })
const Ready = Schema.Struct({
  ...Healthy.fields,
  missingKeys: Schema.optional(
    Schema.Array(Schema.Struct({ id: Schema.String, rows: Schema.Number })).annotations({
      description:
        "For whoever presents an API key: encryption keys that rows are sealed under and this process does not have, and " +
        "how many rows. Those users are `TokenUnreadable`."
    })
  )
})
const Unhealthy = Schema.Struct({ status: Schema.Literal("unavailable") }).annotations(
  HttpApiSchema.annotations({
    identifier: "Unhealthy",
    status: 503,
    description: "The storage is away, or the process is stopping."
  })
)

/**
 * Whether the process lives, and whether it takes work.
 *
 * @since 0.1.0
 * @category api
 */
export class HealthApi extends HttpApiGroup.make("health")
  .add(
    HttpApiEndpoint.get("live", "/live")
      .addSuccess(Healthy)
      .annotate(OpenApi.Summary, "Is the process alive?")
      .annotate(OpenApi.Description, "200 as long as the process lives.")
  )
  .add(
    HttpApiEndpoint.get("ready", "/ready")
      .addSuccess(Ready)
      .addError(Unhealthy)
      .annotate(OpenApi.Summary, "Can requests be served?")
      .annotate(OpenApi.Description, "200 when requests can be served, 503 while storage is away or during shutdown.")
  )
  .prefix("/health")
  .annotate(OpenApi.Description, "For load balancers; without an API key.") {}
