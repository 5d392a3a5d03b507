/** What the package says to Prometheus and Grafana: held by what is counted, and by Prometheus' own tool. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { Effect } from "effect"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Exposition from "../../src/Http/Exposition.js"
import * as Metrics from "../../src/Metrics.js"
import * as Dashboard from "../docs/Dashboard.js"
import { texts } from "../docs/Pages.js"
import { read } from "../support/Exposition.js"

const page = "src/Environment/README.md"

const promtool = ["/usr/bin/promtool", "/usr/local/bin/promtool"].find((path) => Fs.existsSync(path))

let directory: string
beforeAll(() => {
  directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-promtool-"))
})
afterAll(() => Fs.rmSync(directory, { recursive: true }))

/** Runs it on files of these names. */
const check = (words: ReadonlyArray<string>, files: Readonly<Record<string, string>>) => {
  for (const [name, text] of Object.entries(files)) Fs.writeFileSync(Path.join(directory, name), text)
  const { status, stderr, stdout } = spawnSync(promtool ?? "promtool", words, {
    cwd: directory,
    encoding: "utf8",
    timeout: 60_000
  })
  return { status, said: `${stdout}${stderr}` }
}

const alerts = Fs.readFileSync("src/Telemetry/alerts.yaml", "utf8")

/** By name, each on one line. */
const rules = new Map(
  Array.from(
    alerts.matchAll(/- alert: (\w+)\n +expr: (?:>-\n)?([^]*?)\n {8}(?:for|labels):/g),
    ([, name = "", expr = ""]) => [name, expr.replace(/\s+/g, " ").trim()] as const
  )
)

/** What is wrong with an expression: names and labels that nothing has, and values that no list has. */
const mistakes = (expr: string): ReadonlyArray<string> => {
  const series = Array.from(
    expr.matchAll(/\b([a-z]+_[a-z_]+)(?:\{([^}]*)\})?(?=\[|\)|\s|$)/g),
    ([, name = "", matchers = ""]) => ({ name, matchers })
  ).filter(({ name }) => name !== "histogram_quantile")
  const grouped = Array.from(expr.matchAll(/\bby \(([^)]*)\)/g), ([, labels = ""]) => labels.split(", ")).flat()
  return series.flatMap(({ matchers, name }) => {
    const described = Metrics.all.find(
      (each) => each.name === name || (each.type === "histogram" && `${each.name}_bucket` === name)
    )
    if (described === undefined) return [name]
    // Prometheus' own, beside ours.
    const labels = new Set([...Object.keys(described.labels), "le", "instance"])
    const matched = Array.from(matchers.matchAll(/(\w+)(?:=|!=|=~|!~)"([^"]*)"/g), ([, label = "", value = ""]) => ({
      label,
      value
    }))
    return [
      ...[...grouped, ...matched.map(({ label }) => label)].filter((label) => !labels.has(label)),
      ...matched.flatMap(({ label, value }) => {
        const values = described.labels[label]
        if (values === undefined || "pattern" in values) return []
        return value.split("|").filter((each) => !values.includes(each))
      })
    ]
  })
}

describe("alerts and dashboard", () => {
  it("name metrics, labels and values that there are", () => {
    assert.strictEqual(rules.size, alerts.match(/- alert:/g)?.length)
    assert.isAbove(rules.size, 10)
    for (const expr of [...rules.values(), ...Dashboard.expressions]) {
      assert.deepStrictEqual(mistakes(expr), [], expr)
      assert.match(expr, /cal_tokens_/)
    }
    for (const wrong of [
      "rate(cal_tokens_refreshed_total[5m])",
      'rate(cal_tokens_changes_total{kinds="refreshed"}[5m])',
      'rate(cal_tokens_changes_total{kind="refreshes"}[5m])',
      "sum by (outcomes) (rate(cal_tokens_refreshes_total[5m]))",
      "cal_tokens_users_bucket > 0"
    ]) {
      assert.strictEqual(mistakes(wrong).length, 1, wrong)
    }
  })

  it("find what they look for in the first scrape of all, so that its first rise is seen", () => {
    const { samples } = read(Exposition.render(Effect.runSync(Metrics.snapshot)))
    const there = new Set(samples.map(({ name }) => name))
    for (const name of [
      ...["cal_tokens_build_info", "cal_tokens_circuits_open", "cal_tokens_users", "cal_tokens_sealed_answers"],
      ...["cal_tokens_changes_total", "cal_tokens_cal_departures_total", "cal_tokens_storage_failures_total"],
      "cal_tokens_event_loop_active_seconds_total"
    ]) {
      assert.isTrue(there.has(name), name)
    }
  })

  it("is what `npm run docs` writes, and no panel lies on another", () => {
    const text = Fs.readFileSync(Dashboard.file, "utf8")
    assert.strictEqual(text, Dashboard.text())
    const { panels } = JSON.parse(text) as {
      readonly panels: ReadonlyArray<{ readonly gridPos: Readonly<Record<"h" | "w" | "x" | "y", number>> }>
    }
    const cells = panels.flatMap(({ gridPos: { h, w, x, y } }) =>
      Array.from({ length: h * w }, (_, n) => `${x + (n % w)} ${y + Math.floor(n / w)}`)
    )
    assert.strictEqual(new Set(cells).size, cells.length)
  })

  it("say what to do, on pages and headings that there are", () => {
    for (const [, page = "", anchor] of alerts.matchAll(/runbook_url: \S+?\/blob\/main\/([^\s#]+)(?:#(\S+))?/g)) {
      const headings = Array.from(Fs.readFileSync(page, "utf8").matchAll(/^#+ (.*)$/gm), ([, heading = ""]) =>
        heading
          .toLowerCase()
          .replace(/[^\w\s-]/g, "")
          .replace(/\s/g, "-")
      )
      if (anchor !== undefined) assert.include(headings, anchor)
    }
    assert.strictEqual(alerts.match(/runbook_url: /g)?.length, rules.size)
  })
})

/** What each alert is raised by, a value a minute: `from`, `by` so much, so often; and where it is not yet. */
const raised: Readonly<
  Record<string, { readonly series: Readonly<Record<string, string>>; readonly at: string; readonly notYet?: string }>
> = {
  CalTokensAbsent: { series: { other: "1x10" }, at: "3m", notYet: "1m" },
  CalTokensCircuitOpen: { series: { 'cal_tokens_circuits_open{cause="drift"}': "0x2 1x10" }, at: "5m", notYet: "3m" },
  CalTokensPairsHeld: { series: { 'cal_tokens_pairs_held{instance="a"}': "0x2 1x10" }, at: "5m", notYet: "3m" },
  CalTokensUsersLost: {
    series: { 'cal_tokens_changes_total{kind="reauthorizationRequired"}': "0+1x30" },
    at: "20m",
    notYet: "5m"
  },
  CalTokensRefreshesFail: {
    series: {
      'cal_tokens_refreshes_total{outcome="refreshed"}': "0+10x60",
      'cal_tokens_refreshes_total{outcome="ReauthorizationRequired"}': "0+10x60",
      'cal_tokens_refreshes_total{outcome="CalUnavailable"}': "0+1x20 20+5x40"
    },
    at: "45m",
    notYet: "20m"
  },
  CalTokensRefreshesSlow: {
    series: {
      'cal_tokens_refresh_duration_seconds_bucket{le="10"}': "0+10x20 200+1x40",
      'cal_tokens_refresh_duration_seconds_bucket{le="25"}': "0+10x60",
      'cal_tokens_refresh_duration_seconds_bucket{le="+Inf"}': "0+10x60"
    },
    at: "50m",
    notYet: "20m"
  },
  CalTokensBudgetLow: {
    series: {
      'cal_tokens_cal_budget_ratio{kind="oauth2",instance="a"}': "1x5 0.05x20",
      'cal_tokens_cal_budget_ratio{kind="managed",instance="a"}': "1x25"
    },
    at: "15m",
    notYet: "8m"
  },
  CalTokensAheadLate: { series: { cal_tokens_ahead_delay_seconds: "0x5 700x40" }, at: "30m", notYet: "15m" },
  CalTokensDatabaseFails: {
    series: { 'cal_tokens_storage_failures_total{operation="claim"}': "0x5 0+1x40" },
    at: "20m",
    notYet: "6m"
  },
  CalTokensAnswersDepart: {
    series: { 'cal_tokens_cal_departures_total{kind="wrapped"}': "0x5 1x40" },
    at: "10m",
    notYet: "4m"
  },
  CalTokensServerErrors: {
    series: {
      'cal_tokens_http_requests_total{status="200"}': "0+10x60",
      'cal_tokens_http_requests_total{status="503"}': "0x20 0+1x40"
    },
    at: "40m",
    notYet: "20m"
  },
  CalTokensEventLoopBusy: {
    series: { 'cal_tokens_event_loop_active_seconds_total{instance="a"}': "0+10x20 200+58x40" },
    at: "50m",
    notYet: "20m"
  }
}

describe.skipIf(promtool === undefined)("promtool (skipped where Prometheus is not installed)", () => {
  it("takes the configuration that is shown", () => {
    const [config = ""] = texts(page, "Telemetry", "yaml")
    const here = config.replace("/etc/prometheus/cal-tokens-key", "key")
    assert.notStrictEqual(here, config)
    const { said, status } = check(["check", "config", "prometheus.yaml"], { "prometheus.yaml": here, key: "k" })
    assert.strictEqual(status, 0, said)
    assert.strictEqual(
      check(["check", "config", "wrong.yaml"], { "wrong.yaml": here.replace("static_configs", "statics") }).status,
      1
    )
  })

  it("takes the alerts, and whatever the dashboard asks", () => {
    const { said, status } = check(["check", "rules", "alerts.yaml"], { "alerts.yaml": alerts })
    assert.strictEqual(status, 0, said)
    const asked = Dashboard.expressions.map((expr, n) => ({
      record: `panel:${n}`,
      expr: expr.replaceAll("$__rate_interval", "5m")
    }))
    const rules = JSON.stringify({ groups: [{ name: "dashboard", rules: asked }] })
    const panels = check(["check", "rules", "panels.yaml"], { "panels.yaml": rules })
    assert.strictEqual(panels.status, 0, panels.said)
    const broken = check(["check", "rules", "broken.yaml"], { "broken.yaml": rules.replace("sum by", "sum bye") })
    assert.notStrictEqual(broken.status, 0)
  })

  it("raises each alert by what it is for, and not before", () => {
    assert.deepStrictEqual(Object.keys(raised).sort(), [...rules.keys()].sort())
    const names = (alertname: string, at: string, isRaised: boolean) => ({
      expr: `count(ALERTS{alertname="${alertname}", alertstate="firing"}) or vector(0)`,
      eval_time: at,
      exp_samples: [{ labels: "{}", value: isRaised ? 1 : 0 }]
    })
    const tests = Object.entries(raised).map(([name, { at, notYet, series }]) => ({
      interval: "1m",
      input_series: Object.entries(series).map(([series, values]) => ({ series, values })),
      promql_expr_test: [names(name, at, true), ...(notYet === undefined ? [] : [names(name, notYet, false)])]
    }))
    const suite = { rule_files: ["alerts.yaml"], evaluation_interval: "1m", tests }
    const { said, status } = check(["test", "rules", "suite.yaml"], {
      "alerts.yaml": alerts,
      "suite.yaml": JSON.stringify(suite)
    })
    assert.strictEqual(status, 0, said)
  })
})
