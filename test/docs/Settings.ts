/** The README's table of settings, made of the one that the program reads them by. */
import { groups } from "../../src/Environment/Variables.js"

const row = (...cells: ReadonlyArray<string>) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

const table = [
  row("Variable", "Default", "What for"),
  "|---|---|---|",
  ...groups.flatMap(({ title, variables }) => [
    row(`**${title}**`, "", ""),
    ...variables.map(({ description, isSecret, name, unset }) =>
      row(`\`${name}\``, unset, isSecret ? `${description} *Secret.*` : description)
    )
  ])
].join("\n")

const part = /(<!-- variables: [^\n]* -->\n)[^]*?(<!-- \/variables -->\n)/

/** The text with the table where its marks are. */
export const withTable = (text: string): string => {
  if (!part.test(text)) throw new Error("README.md has lost the marks of its table of settings")
  return text.replace(part, (_, begin: string, end: string) => `${begin}\n${table}\n\n${end}`)
}
