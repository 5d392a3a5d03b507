/** What a monitoring system reads at intervals. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "@effect/platform"
import { ReadMetrics } from "./Access.js"

/** Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/ */
const Exposition = HttpApiSchema.Text({ contentType: "text/plain; version=0.0.4; charset=utf-8" }).annotations({
  description: "Metrics in the Prometheus text exposition format."
})

/**
 * Numbers for Prometheus.
 *
 * @since 0.1.0
 * @category api
 */
export class MetricsApi extends HttpApiGroup.make("metrics")
  .add(
    HttpApiEndpoint.get("getMetrics", "/metrics")
      .addSuccess(Exposition)
      .annotate(OpenApi.Summary, "Read the metrics of this process")
      .annotate(
        OpenApi.Description,
        "Counts and times of this process since it began: refreshes, calls to Cal.com, changes of tokens and HTTP " +
          "requests. Prometheus can be pointed here; each process is a target of its own. Names no user and no token."
      )
  )
  .middleware(ReadMetrics)
  .annotate(OpenApi.Description, "For Prometheus, and whatever reads its text format.") {}
