/**
 * What completes the program's commands and options in a shell. Those that the library writes do not know a command of a
 * program with a hyphen in its name in bash, and offer options that this program does not have.
 */
import { Effect } from "effect"
import type { Description } from "./Describing.js"
import { UsageError } from "./Usage.js"

const usual = ["--help"]

const optionsOf = ({ options }: Description): ReadonlyArray<string> => [
  ...options.map(({ title }) => title.split(" ", 1)[0] ?? ""),
  ...usual
]

const ofProgram = [...usual, "--version", "--completions"]

/** Files where an option has a value, as the shell does by itself. */
const bash = (commands: ReadonlyArray<Description>) => `_cal_tokens() {
  local words
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${[...commands.map(({ name }) => name), ...ofProgram].join(" ")}"
  else
    case "\${COMP_WORDS[1]}" in
${commands.map((command) => `      ${command.name}) words="${optionsOf(command).join(" ")}" ;;`).join("\n")}
      --completions) words="bash zsh fish" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _cal_tokens cal-tokens`

const zsh = (commands: ReadonlyArray<Description>) => `#compdef cal-tokens
_cal_tokens() {
  local -a found
  if (( CURRENT == 2 )); then
    found=(${[...commands.map(({ about, name }) => quoted(`${name}:${about}`)), ...ofProgram].join(" ")})
    _describe command found
    return
  fi
  case "$words[2]" in
${commands.map((command) => `    ${command.name}) found=(${parts(command).join(" ")}) ;;`).join("\n")}
    --completions) found=(bash zsh fish) ;;
  esac
  _describe -o option found || _files
}
compdef _cal_tokens cal-tokens`

const parts = ({ options }: Description) => [
  ...options.map(({ about, title }) => quoted(about === "" ? nameOf(title) : `${nameOf(title)}:${about}`)),
  quoted("--help:Explain the command.")
]

const nameOf = (title: string) => title.split(" ", 1)[0] ?? ""

const fish = (commands: ReadonlyArray<Description>) =>
  [
    ...commands.map(
      ({ about, name }) => `complete -c cal-tokens -n __fish_use_subcommand -f -a ${name} -d ${quoted(about)}`
    ),
    ...ofProgram.map((name) => `complete -c cal-tokens -n __fish_use_subcommand -f -l ${name.slice(2)}`),
    `complete -c cal-tokens -l completions -x -a 'bash zsh fish'`,
    ...commands.flatMap(({ name, options }) =>
      [...options, { title: "--help", about: "Explain the command." }].map(
        ({ about, title }) =>
          `complete -c cal-tokens -n '__fish_seen_subcommand_from ${name}' -l ${nameOf(title).slice(2)}` +
          `${title.includes(" ") ? " -r" : ""}${about === "" ? "" : ` -d ${quoted(about)}`}`
      )
    )
  ].join("\n")

/** For a shell. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

const shells = { bash, zsh, fish }

export const of = (
  commands: ReadonlyArray<Description>,
  shell: string | undefined
): Effect.Effect<string, UsageError> => {
  const script = Object.entries(shells).find(([name]) => name === shell)?.[1]
  return script === undefined
    ? new UsageError({ message: `--completions must be one of ${Object.keys(shells).join(", ")} (cal-tokens --help)` })
    : Effect.succeed(script(commands))
}
