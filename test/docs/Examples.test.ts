/** Examples in comments are programs: each is complete, and compiles as strictly as the project does. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { assert, describe, it } from "vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))

interface Example {
  /** Where it is. */
  readonly from: string
  /** Its first line may name the file, for another one to import. */
  readonly name: string
  readonly text: string
}

const examples: ReadonlyArray<Example> = Fs.readdirSync(Path.join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .flatMap((from) => {
    const source = Fs.readFileSync(Path.join(root, "src", from), "utf8")
    const blocks = source.matchAll(/^( *\*) ```ts\n([^]*?)^\1 ```$/gm)
    return Array.from(blocks, ([, margin = "", block = ""], n) => {
      const text = block
        .split("\n")
        .map((line) => line.slice(margin.length + 1))
        .join("\n")
      const [, name = `example-${n}.ts`] = /^\/\/ (\w+\.ts)/.exec(text) ?? []
      return { from, name, text }
    })
  })

/** What examples take from frameworks that are not installed here. */
const ambient = `
declare module "server-only" {}
declare module "next/cache" { export const revalidatePath: (path: string) => void }
declare module "next/server" { export const after: (task: () => void) => void }
`

describe("examples in comments", () => {
  it("are there", () => {
    assert.isAtLeast(examples.length, 5)
  })

  it("compile", () => {
    const directory = Path.join(root, "node_modules/.cache/doc-examples")
    Fs.rmSync(directory, { recursive: true, force: true })
    const write = (path: string, text: string) => {
      Fs.mkdirSync(Path.dirname(path), { recursive: true })
      Fs.writeFileSync(path, text)
      return path
    }
    const files = examples.map(({ from, name, text }) => write(Path.join(directory, from, name), text))
    const { config } = ts.readConfigFile(Path.join(root, "tsconfig.json"), (path) => ts.sys.readFile(path)) as {
      readonly config: unknown
    }
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
    const program = ts.createProgram([...files, write(Path.join(directory, "ambient.d.ts"), ambient)], {
      ...options,
      incremental: false,
      tsBuildInfoFile: undefined as never
    })
    const inExamples = ts
      .getPreEmitDiagnostics(program)
      .filter(({ file }) => file === undefined || file.fileName.startsWith(directory))
    assert.deepStrictEqual(
      inExamples.map(({ file, messageText }) => [
        file === undefined ? "" : Path.relative(directory, file.fileName),
        ts.flattenDiagnosticMessageText(messageText, " ")
      ]),
      []
    )
  })
})
