/** The parts of the documents that are made of the code: the tables of settings, failures and metrics. */
import { facts, type Fact } from "../../src/ErrorFacts.js"
import { groups } from "../../src/Environment/Variables.js"
import * as Metrics from "../../src/Metrics.js"

const row = (...cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

const variables = () => [
  row("Variable", "Default", "What for"),
  "|---|---|---|",
  ...groups.flatMap(({ title, variables }) => [
    row(`**${title}**`, "", ""),
    ...variables.map(({ description, isSecret, name, unset }) =>
      row(`\`${name}\``, unset, isSecret ? `${description} *Secret.*` : description)
    )
  ])
]

/** Those of a request that is too large are told apart by the status alone. */
const failures = () => [
  row("`code`", "HTTP", "What happened", "What to do"),
  "|---|---|---|---|",
  ...Object.entries<Fact>(facts).map(([tag, { advice, status, what }]) =>
    row(`\`${tag === "PayloadTooLarge" ? "InvalidInput" : tag}\``, String(status), what, advice)
  )
]

/** What has more values than fit is described. */
const valuesOf = (values: Metrics.Values) =>
  "pattern" in values ? `: ${values.words}` : values.length > 7 ? "" : `: ${values.map((it) => `\`${it}\``).join(", ")}`

const metrics = () => [
  row("Metric", "Kind", "What it tells", "Labels"),
  "|---|---|---|---|",
  ...Metrics.all.map(({ description, labels, name, type }) =>
    row(
      `\`${name}\``,
      type,
      description,
      Object.entries(labels)
        .map(([label, values]) => `\`${label}\`${valuesOf(values)}`)
        .join("; ")
    )
  )
]

const parts = { variables, failures, metrics }

/** Which parts are in which document. */
export const documents: Readonly<Record<string, ReadonlyArray<keyof typeof parts>>> = {
  "src/Http/README.md": ["failures"],
  "src/Environment/README.md": ["variables", "metrics"]
}

/** The text of a document with its parts where their marks are. */
export const withParts = (document: string, text: string): string =>
  (documents[document] ?? []).reduce((text, name) => {
    const part = new RegExp(`(<!-- ${name}: [^\\n]* -->\\n)[^]*?(<!-- /${name} -->\\n)`)
    if (!part.test(text)) throw new Error(`${document} has lost the marks of its table of ${name}`)
    return text.replace(part, (_, begin: string, end: string) => `${begin}\n${parts[name]().join("\n")}\n\n${end}`)
  }, text)
