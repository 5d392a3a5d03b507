/** Projects of strangers: empty directories elsewhere, into which npm installs the package as it would be published. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { fileURLToPath } from "node:url"
import manifest from "../../package.json" with { type: "json" }

const run = promisify(execFile)

export const root = fileURLToPath(new URL("../..", import.meta.url))

/** As in a shell of one's own: whoever runs these tests by npm has told it where this project is. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_(config_local_prefix|package|lifecycle)/i.test(name))
)

const versions: Readonly<Record<string, string>> = { ...manifest.devDependencies, ...manifest.dependencies }

/** A package in the version that this project is tested with. */
export const tested = (name: string): string => `${name}@${versions[name] ?? "missing in package.json"}`

let home: string | undefined

/** Everything of this run is in one directory. */
const inHome = (name: string): string =>
  Path.join((home ??= Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-package-"))), name)

/** Leaves nothing. */
export const remove = (): void => {
  if (home !== undefined) Fs.rmSync(home, { recursive: true, force: true })
  home = undefined
}

/** The package as npm publishes it, and the paths in it. */
export interface Packed {
  readonly tarball: string
  readonly files: ReadonlyArray<string>
}

/** Builds it anew, in `dist`. */
export const pack = async (): Promise<Packed> => {
  const { stdout } = await run("npm", ["pack", "--json", "--silent", `--pack-destination=${inHome("")}`], {
    cwd: root,
    env,
    maxBuffer: 16 * 1024 * 1024
  })
  // npm 12 answers by the package's name, earlier ones a list.
  const answer = JSON.parse(stdout.slice(stdout.search(/^[[{]/m))) as object
  const [packed] = Object.values(answer) as ReadonlyArray<{
    readonly filename: string
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  if (packed === undefined) throw new Error(`npm pack said: ${stdout}`)
  return { tarball: inHome(packed.filename), files: packed.files.map(({ path }) => path) }
}

export interface Outcome {
  readonly code: number
  readonly output: string
}

export interface Project {
  readonly directory: string
  readonly npm: (...args: ReadonlyArray<string>) => Promise<Outcome>
  readonly node: (args: ReadonlyArray<string>, variables?: Readonly<Record<string, string>>) => Promise<Outcome>
  /** Compiles programs that were copied here with {@link Project.add}; `name` is the configuration's, `options` are TypeScript's. */
  readonly compile: (name: string, files: ReadonlyArray<string>, options: object) => Promise<Outcome>
  readonly add: (...programs: ReadonlyArray<string>) => void
  readonly write: (file: string, text: string) => void
}

/** An empty project. */
export const make = (name: string): Project => {
  const directory = inHome(name)
  Fs.mkdirSync(directory)
  Fs.writeFileSync(Path.join(directory, "package.json"), JSON.stringify({ name, private: true, type: "module" }))

  const execute = async (command: string, args: ReadonlyArray<string>, variables: Readonly<Record<string, string>>) => {
    try {
      const { stderr, stdout } = await run(command, [...args], {
        cwd: directory,
        env: { ...env, ...variables },
        maxBuffer: 64 * 1024 * 1024
      })
      return { code: 0, output: stdout + stderr }
    } catch (error) {
      const { code, stderr, stdout } = error as { code?: number | string; stderr?: string; stdout?: string }
      return { code: typeof code === "number" ? code : -1, output: `${stdout}${stderr}` }
    }
  }
  const node: Project["node"] = (args, variables = {}) => execute(process.execPath, args, variables)

  return {
    directory,
    node,
    npm: (...args) =>
      execute(
        "npm",
        [...args, "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts", "--loglevel=error"],
        {}
      ),
    compile: (name, files, options) => {
      const config = Path.join(directory, name)
      Fs.writeFileSync(config, JSON.stringify({ compilerOptions: options, files }))
      return node([Path.join(root, "node_modules/typescript/bin/tsc"), "-p", config])
    },
    write: (file, text) => Fs.writeFileSync(Path.join(directory, file), text),
    add: (...programs) => {
      for (const program of programs) {
        Fs.copyFileSync(Path.join(root, "test/package/programs", program), Path.join(directory, program))
      }
    }
  }
}

/** Bytes of all files below a directory, and how many there are. */
export const weigh = (directory: string): { readonly bytes: number; readonly files: number } => {
  let bytes = 0
  let files = 0
  for (const entry of Fs.readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    bytes += Fs.statSync(Path.join(entry.parentPath, entry.name)).size
    files++
  }
  return { bytes, files }
}
