/** The program's help. Fits for 80 columns, and is no wider on any terminal. */
import { groups } from "../Environment/Variables.js"
import type { Variable } from "../Environment/Variable.js"
import * as Colours from "./Colours.js"
import type { Description, Part } from "./Describing.js"

/** The variables, as the help of `serve` has them below its options. */
export const settings: string = [
  heading("SETTINGS"),
  lines(
    "Environment variables. One that is empty counts as not set. Of a secret, <NAME>_FILE may name a file that holds it."
  ),
  ...groups.flatMap(({ title, variables }) => [Colours.bold(title), variables.map(variable).join("\n")])
].join("\n\n")

/** Where they are, for whoever asked for the help of the program. */
const whereSettingsAre = "Settings are environment variables: `cal-tokens serve --help` lists them."

/** What stands below the options of those whose settings are not just those of `serve`. */
const footers: Readonly<Record<string, string>> = { serve: settings, sandbox: "" }

/** Of the program. */
export const overview = (about: string, version: string, commands: ReadonlyArray<Description>): string => {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return page([
    `cal-tokens ${version}`,
    about,
    heading("USAGE"),
    "  cal-tokens <command> [options]",
    heading("COMMANDS"),
    commands
      .map((each) => `  ${each.name.padEnd(width + 2)}${lines(each.about, " ".repeat(width + 4)).trim()}`)
      .join("\n"),
    heading("OPTIONS"),
    [
      { title: "--help, -h", about: "Explain the program, or a command." },
      { title: "--version", about: "Tell the version." },
      { title: "--completions bash|zsh|fish", about: "Print what completes commands and options in a shell." }
    ]
      .map(part)
      .join("\n"),
    whereSettingsAre
  ])
}

/** Of one command. */
export const ofCommand = ({ about, args, name, options }: Description): string =>
  page([
    `cal-tokens ${name}`,
    lines(about),
    heading("USAGE"),
    `  ${["cal-tokens", name, ...(options.length === 0 ? [] : ["[options]"]), ...args.map(({ title }) => title)].join(" ")}`,
    ...(args.length === 0 ? [] : [heading("ARGUMENTS"), args.map(part).join("\n")]),
    ...(options.length === 0 ? [] : [heading("OPTIONS"), options.map(part).join("\n")]),
    footers[name] ?? whereSettingsAre
  ])

const page = (blocks: ReadonlyArray<string>) => `${blocks.filter((block) => block !== "").join("\n\n")}\n`

function heading(text: string): string {
  return Colours.bold(text)
}

const part = ({ about, title }: Part) => `  ${Colours.bold(title)}\n${lines(about, "      ")}`

function variable({ description, form, isSecret, name, unset }: Variable<unknown>): string {
  return [
    `  ${Colours.bold(isSecret ? `${name}, ${name}_FILE` : name)}`,
    ...[description, `Form: ${form}`, `Default: ${unset}`].map((text) => lines(plain(text), "      "))
  ].join("\n")
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
