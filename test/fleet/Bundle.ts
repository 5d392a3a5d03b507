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

/** What an answer's fields are called, and who reads more of them than the sources do. */
const names = here("../../src/CalClient/TokenAnswer/Names.ts")
const spelling = "export const plain ="

const learning: Esbuild.Plugin = {
  name: "learning",
  setup: (build) =>
    build.onLoad({ filter: /\/TokenAnswer\/Names\.ts$/ }, ({ path }) => {
      const source = Fs.readFileSync(path, "utf8")
      if (path !== names || !source.includes(spelling)) throw new Error("Names are read otherwise: nothing is learned")
      const learned = `import { learned } from ${JSON.stringify(here("node/NewNames.ts"))}
${source.replace(spelling, "const known =")}
export const plain = learned(known)`
      return { contents: learned, loader: "ts", resolveDir: Path.dirname(path) }
    })
}

/** `newer`: a program that reads the sandbox's `tokensRenamed` besides, of which the sources know nothing. */
export type Release = "current" | "newer"

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

const build = async (release: Release): Promise<string> => {
  const directory = newDirectory()
  const file = Path.join(directory, "dist", `${release}.mjs`)
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
    banner: {
      js: `import { createRequire as bundleRequire } from "node:module"; const require = bundleRequire(import.meta.url);`
    },
    logLevel: "warning",
    plugins: [tapping(placed), ...(release === "newer" ? [learning] : [])]
  })
  if (placed.size < taps.size) throw new Error(`The service is wired otherwise: tapped only ${[...placed].join(", ")}`)
  Fs.copyFileSync(here("../../package.json"), Path.join(directory, "package.json"))
  return file
}

const built = new Map<Release, Promise<string>>()

/** A program's path; made once for all tests of a run. */
export const make = (release: Release = "current"): Effect.Effect<string> =>
  Effect.promise(() => {
    const program = built.get(release) ?? build(release)
    built.set(release, program)
    return program
  })
