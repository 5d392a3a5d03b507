/** The dashboard for Grafana, written by `npm run docs`. */
export const file = "src/Telemetry/grafana-dashboard.json"

interface Query {
  readonly expr: string
  readonly legend: string
}

interface Panel {
  readonly title: string
  readonly unit: string
  readonly type: "stat" | "timeseries"
  readonly queries: ReadonlyArray<Query>
}

const one = (expr: string, legend = ""): ReadonlyArray<Query> => [{ expr, legend }]

const stat = (title: string, expr: string, unit = "short", legend = ""): Panel => ({
  title,
  unit,
  type: "stat",
  queries: one(expr, legend)
})

const series = (title: string, unit: string, queries: ReadonlyArray<Query>): Panel => ({
  title,
  unit,
  type: "timeseries",
  queries
})

const rate = (counter: string, matchers = "") => `rate(${counter}${matchers}[$__rate_interval])`
const by = (label: string, expr: string) => one(`sum by (${label}) (${expr})`, `{{${label}}}`)
const quantile = (share: number, histogram: string, label?: string) =>
  `histogram_quantile(${share}, sum by (${["le", ...(label === undefined ? [] : [label])].join(", ")}) (${rate(`${histogram}_bucket`)}))`
const quantiles = (histogram: string) =>
  [0.5, 0.95, 0.99].map((share) => ({ expr: quantile(share, histogram), legend: `p${share * 100}` }))

const panels: ReadonlyArray<Panel> = [
  stat("Users", 'max(cal_tokens_users{status="active"})'),
  stat("Users who have to reconnect", 'max(cal_tokens_users{status="reauthorization_required"})'),
  stat("Open circuits", "max by (cause) (cal_tokens_circuits_open) > 0", "short", "{{cause}}"),
  stat("Pairs held in memory", "sum(cal_tokens_pairs_held)"),
  stat("Cal.com's budget left", "min(cal_tokens_cal_budget_ratio)", "percentunit"),
  stat("Versions", "count by (version) (cal_tokens_build_info)", "short", "{{version}}"),
  series("Refreshes by outcome", "ops", by("outcome", rate("cal_tokens_refreshes_total"))),
  series("Refreshes by trigger", "ops", by("trigger", rate("cal_tokens_refreshes_total"))),
  series("Duration of refreshes", "s", quantiles("cal_tokens_refresh_duration_seconds")),
  series("Waits, p95", "s", [
    { expr: quantile(0.95, "cal_tokens_refresh_wait_seconds", "for"), legend: "for the {{for}}" },
    { expr: quantile(0.95, "cal_tokens_join_wait_seconds"), legend: "of callers who joined" }
  ]),
  series(
    "Answers from memory",
    "percentunit",
    one(
      `sum(${rate("cal_tokens_cache_lookups_total", '{result="hit"}')}) / sum(${rate("cal_tokens_cache_lookups_total")})`,
      "hits"
    )
  ),
  series("Changes", "ops", by("kind", rate("cal_tokens_changes_total"))),
  series("Calls to Cal.com's token endpoints", "ops", by("outcome", rate("cal_tokens_cal_calls_total"))),
  series(
    "Duration of calls to Cal.com, p95",
    "s",
    one(quantile(0.95, "cal_tokens_cal_call_duration_seconds", "operation"), "{{operation}}")
  ),
  series("Cal.com's budget", "short", one("min by (kind) (cal_tokens_cal_budget_remaining)", "{{kind}}")),
  series("Lateness of refreshes that nobody waits for", "s", one("max(cal_tokens_ahead_delay_seconds)", "latest")),
  series("Answers of Cal.com off its contract", "short", [
    { expr: `sum by (kind) (increase(cal_tokens_cal_departures_total[$__rate_interval]))`, legend: "read: {{kind}}" },
    { expr: "max(cal_tokens_sealed_answers)", legend: "kept unread" },
    { expr: "sum(increase(cal_tokens_sealed_answers_read_total[$__rate_interval]))", legend: "read later" }
  ]),
  series(
    "Duration of statements, p95",
    "s",
    one(quantile(0.95, "cal_tokens_storage_call_duration_seconds", "operation"), "{{operation}}")
  ),
  series("Statements without an answer", "ops", by("operation", rate("cal_tokens_storage_failures_total"))),
  series("Requests by route", "reqps", by("route", rate("cal_tokens_http_requests_total"))),
  series(
    "Errors by route",
    "reqps",
    one(
      `sum by (route, status) (${rate("cal_tokens_http_requests_total", '{status=~"4..|5.."}')})`,
      "{{status}} {{route}}"
    )
  ),
  series(
    "Duration of requests, p99",
    "s",
    one(quantile(0.99, "cal_tokens_http_request_duration_seconds", "route"), "{{route}}")
  ),
  series("Event loop and processor", "percentunit", [
    { expr: rate("cal_tokens_event_loop_active_seconds_total"), legend: "loop {{instance}}" },
    { expr: rate("cal_tokens_process_cpu_seconds_total"), legend: "processor {{instance}}" }
  ]),
  series("Memory", "bytes", one("cal_tokens_process_resident_memory_bytes", "{{instance}}"))
]

/** Six small ones in the first row, then two in each. */
const small = 6

const place = (index: number) =>
  index < small
    ? { h: 4, w: 4, x: index * 4, y: 0 }
    : { h: 8, w: 12, x: ((index - small) % 2) * 12, y: 4 + Math.floor((index - small) / 2) * 8 }

const datasource = { type: "prometheus", uid: "${datasource}" }

export const expressions: ReadonlyArray<string> = panels.flatMap(({ queries }) => queries.map(({ expr }) => expr))

export const text = (): string =>
  `${JSON.stringify(
    {
      title: "cal-tokens",
      uid: "cal-tokens",
      tags: ["cal-tokens"],
      timezone: "browser",
      schemaVersion: 39,
      refresh: "30s",
      time: { from: "now-6h", to: "now" },
      templating: { list: [{ name: "datasource", label: "Data source", type: "datasource", query: "prometheus" }] },
      panels: panels.map(({ queries, title, type, unit }, index) => ({
        id: index + 1,
        title,
        type,
        datasource,
        gridPos: place(index),
        fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
        targets: queries.map(({ expr, legend }, number) => ({
          refId: String.fromCharCode(65 + number),
          datasource,
          expr,
          legendFormat: legend === "" ? "__auto" : legend
        }))
      }))
    },
    null,
    2
  )}\n`
