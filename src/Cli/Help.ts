/** What the program's help says of settings. Fits for 80 columns. */
import { HelpDoc, Span } from "@effect/cli"
import { groups } from "../Environment/Variables.js"
import type { Variable } from "../Environment/Variable.js"

/** The variables, as the help of `serve` has them below its options. */
export const settings: HelpDoc.HelpDoc = HelpDoc.blocks([
  HelpDoc.h1("SETTINGS"),
  HelpDoc.p(
    lines(
      "Environment variables. One that is empty counts as not set. Of a secret, <NAME>_FILE may name a file that holds it."
    )
  ),
  ...groups.flatMap(({ title, variables }) => [HelpDoc.h2(title), HelpDoc.p(Span.spans(variables.flatMap(entry)))])
])

/** Where they are, for whoever asked for the help of the program. */
export const whereSettingsAre: HelpDoc.HelpDoc = HelpDoc.p(
  "Settings are environment variables: `cal-tokens serve --help` lists them."
)

function entry(
  { description, form, isSecret, name, unset }: Variable<unknown>,
  index: number
): ReadonlyArray<Span.Span> {
  const facts = [description, `Form: ${form}`, `Default: ${unset}`].map((text) => lines(plain(text), "      "))
  return [
    Span.text(index === 0 ? "  " : "\n  "),
    Span.strong(isSecret ? `${name}, ${name}_FILE` : name),
    Span.text(["", ...facts].join("\n"))
  ]
}

/** Markdown as a terminal shows it. */
function plain(markdown: string): string {
  return markdown.replace(/`|\*\*/g, "")
}

/** Broken at spaces. */
function lines(text: string, indent = ""): string {
  const broken: Array<string> = []
  for (const word of text.split(" ")) {
    const last = broken.at(-1)
    if (last === undefined || last.length + 1 + word.length > 80) broken.push(`${indent}${word}`)
    else broken[broken.length - 1] = `${last} ${word}`
  }
  return broken.join("\n")
}
