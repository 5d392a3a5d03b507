/** Code, help and documents name the same variables. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { assert, describe, it } from "vitest"
import * as Help from "../../src/Cli/Help.js"
import * as Variables from "../../src/Environment/Variables.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (file: string) => Fs.readFileSync(Path.join(root, file), "utf8")

/** The project's files below a directory, without what is installed, built or kept. */
const below = (directory: string): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = Path.join(directory, entry.name)
    if (/^(node_modules|dist|coverage|\.git|\.data)$/.test(entry.name)) return []
    return entry.isDirectory() ? below(path) : entry.isFile() ? [path] : []
  })

const sources = below("src")
const configuration = read("src/Environment/README.md")
const help = `${stripVTControlCharacters(Help.settings)}\n`

const variables = Object.values(Variables.all)
const names = new Set(variables.flatMap(({ names }) => names))

const like = /\b(?:CAL_(?:TOKENS|CLIENT|OAUTH|API)|DATABASE|LOG|OTEL)_[A-Z]+(?:_[A-Z]+)*\b/g

/** Where the environment is read, and by which name; `undefined` where the name is computed. */
const readsOf = (file: string): ReadonlyArray<string | undefined> => {
  const text = read(file)
  const direct = Array.from(
    text.matchAll(/\bprocess\.env\b(?:\.(\w+)|\["(\w+)"\])?/g),
    ([, dotted, indexed]) => dotted ?? indexed
  )
  const configs = Array.from(
    text.matchAll(
      /\bConfig\.(?!Config\b|ConfigError\b|all\b|map\w*\b|zip\w*\b|option\b|with\w+\b|unwrap\b|succeed\b)[a-z]\w*\(\s*(?:"(\w+)")?/g
    ),
    ([, name]) => name
  )
  return [...direct, ...configs]
}

describe("each variable", () => {
  it("that is read is in the table", () => {
    const computed = new Map<string, number>()
    const unknown: Array<string> = []
    for (const file of sources) {
      for (const name of readsOf(file)) {
        if (name === undefined) computed.set(file, (computed.get(file) ?? 0) + 1)
        else if (!names.has(name)) unknown.push(`${file}: ${name}`)
      }
    }
    assert.deepStrictEqual(unknown, [])
    // By the table's own names, held against them, and handed on as they are to a process of ours; nowhere else.
    assert.deepStrictEqual(Object.fromEntries(computed), {
      "src/Cli/Colours.ts": 1,
      "src/Cli/Reloading.ts": 1,
      "src/Cli/Serve.ts": 1,
      "src/Embedded/Files.ts": 1,
      "src/Environment.ts": 1,
      "src/Environment/Misspelt.ts": 1,
      "src/Environment/Variable.ts": 1
    })
  })

  it("of the table is in the help and in the README of settings, with its default and what it is for", () => {
    const flowing = help.replace(/\s+/g, " ")
    for (const { description, form, isSecret, name, unset } of variables) {
      const plain = (text: string) => text.replace(/`|\*\*/g, "")
      const title = isSecret ? `${name}, ${name}_FILE` : name
      assert.include(help, `\n  ${title}\n`)
      assert.include(flowing, ` ${title} ${plain(description)} Form: ${form} Default: ${plain(unset)} `)
      assert.include(configuration, `| \`${name}\` | ${unset} | ${description}`)
    }
  })

  it("of the table has an effect: it is looked at by whoever judges", () => {
    const judges = [
      "src/Environment.ts",
      "src/Environment/Cal.ts",
      "src/Environment/Database.ts",
      "src/Environment/Telemetry.ts"
    ]
      .map(read)
      .join("\n")
    for (const { name } of variables) assert.match(judges, new RegExp(`\\bit\\.${name}\\b`), name)
  })

  it("is named by settings and doors only: whoever uses the rest may have set none", () => {
    // The fact sheet of errors is what doors and README say of them.
    const below = sources.filter(
      (file) => file.endsWith(".ts") && !/^src.(Environment|Cli|Http|Api|Actions|Next|Node|ErrorFacts)\b/.test(file)
    )
    assert.isAbove(below.length, 100)
    const said = below.flatMap((file) => {
      const code = read(file).replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, "")
      return Array.from(code.matchAll(like), ([name]) => `${file}: ${name}`)
    })
    assert.deepStrictEqual(said, [])
  })

  it("that is named to people exists", () => {
    const files = [
      ...["README.md", "SECURITY.md", "CONTRIBUTING.md"],
      ...sources,
      ...below("").filter((file) => /(^|\/)(\.env[^/]*|[^/]*compose[^/]*\.ya?ml|Dockerfile[^/]*)$/.test(file))
    ]
    // Of those who call the service: what `cal-tokens import --to-http` reads, and `serve` has no use for.
    const callers = new Set(["CAL_TOKENS_API_KEY", "CAL_TOKENS_API_KEY_FILE"])
    const wrong = files.flatMap((file) =>
      Array.from(read(file).matchAll(like), ([name]) => name)
        .filter((name) => !names.has(name) && !(file.startsWith("src/Cli/Import/") && callers.has(name)))
        .map((name) => `${file}: ${name}`)
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("that settings are explained with exists, whatever it is called", () => {
    // Variables of Node's own, scopes of Cal.com's, methods of HTTP, and a signal.
    const nodes = ["NODE_EXTRA_CA_CERTS", "NO_COLOR", "FORCE_COLOR"]
    const others = new Set([...nodes, "BOOKING_READ", "PROFILE_READ", "GET", "HEAD", "PUT", "SIGHUP"])
    const capitals = /(?<![\w/.<])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g
    const quoted = /`([A-Z][A-Z0-9_]{2,})(?:=[^`]*)?`/g
    // Files for other programs have words of their own.
    const words = configuration.replace(/^```(?!sh\b)\w+\n[^]*?^```$/gm, "")
    const named = [
      ...Array.from(words.matchAll(capitals), ([name]) => name),
      ...Array.from(words.matchAll(quoted), ([, name = ""]) => name),
      ...Array.from(help.matchAll(capitals), ([name]) => name),
      ...Array.from(help.matchAll(/^ {2}(\S+)/gm), ([, name = ""]) => name.replace(/,$/, ""))
    ]
    assert.isAbove(named.length, 2 * variables.length)
    assert.deepStrictEqual(
      [...new Set(named)].filter((name) => !names.has(name) && !others.has(name)),
      []
    )
  })
})

describe("the help on settings", () => {
  it("fits for 80 columns", () => {
    for (const line of help.split("\n")) assert.isAtMost(line.length, 80, line)
  })
})
