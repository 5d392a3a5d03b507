/**
 * The program of a node: the service's own sources in one file, with taps in two places of its wiring. With its packages,
 * because a process starts three times as fast from one file.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import * as Esbuild from "esbuild"

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** What the service's wiring imports, and what it gets instead. */
const wiring = here("../../src/Environment/Services.ts")
const taps = new Map([
  ["../TokenStorage/Postgres.js", here("node/TappedStorage.ts")],
  ["../CalHttp/Node.js", here("node/TappedHttp.ts")]
])

const tapping = (placed: Set<string>): Esbuild.Plugin => ({
  name: "taps",
  setup: (build) =>
    build.onResolve({ filter: /^\.\.\/(TokenStorage\/Postgres|CalHttp\/Node)\.js$/ }, ({ importer, path }) => {
      const tap = importer === wiring ? taps.get(path) : undefined
      if (tap === undefined) return undefined
      placed.add(path)
      return { path: tap }
    })
})

/** Directories are named after the process that made them: those of processes that are gone are removed. */
const cache = here("../../node_modules/.cache/fleet")

const newDirectory = () => {
  const directory = Path.join(cache, String(process.pid))
  Fs.mkdirSync(directory, { recursive: true })
  for (const name of Fs.readdirSync(cache)) {
    if (!isAlive(Number(name))) Fs.rmSync(Path.join(cache, name), { recursive: true, force: true })
  }
  return directory
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const build = async (): Promise<string> => {
  const directory = newDirectory()
  const file = Path.join(directory, "dist", "node.mjs")
  const placed = new Set<string>()
  await Esbuild.build({
    entryPoints: [here("node/main.ts")],
    outfile: file,
    bundle: true,
    external: ["pg-native"],
    platform: "node",
    format: "esm",
    target: "node20",
    // Some packages are CommonJS.
    banner: { js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);` },
    logLevel: "warning",
    plugins: [tapping(placed)]
  })
  if (placed.size < taps.size) throw new Error(`The service is wired otherwise: tapped only ${[...placed].join(", ")}`)
  Fs.copyFileSync(here("../../package.json"), Path.join(directory, "package.json"))
  return file
}

let built: Promise<string> | undefined

/** The program's path; made once for all tests of a run. */
export const make: Effect.Effect<string> = Effect.promise(() => (built ??= build()))
