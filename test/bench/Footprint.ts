/** What it takes to import the promise door, and what users in memory take. Each time in a process of its own. */
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { median, type Row } from "./Row.js"

const child = (script: string, ...flags: ReadonlyArray<string>): number => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [...flags, "--input-type=module", "-e", script], {
    encoding: "utf8"
  })
  if (status !== 0) throw new Error(stderr)
  return Number(stdout)
}

const imported = (specifier: string) => `
  const begun = performance.now()
  await import(${JSON.stringify(specifier)})
  console.log(performance.now() - begun)
`

const importing: Row = {
  name: "import",
  figure: "ms that importing `cal-tokens/actions` takes more than `effect`",
  target: 150,
  measure: () => {
    // What people import is compiled.
    const { status } = spawnSync("npx", ["tsc", "-p", "src"], { encoding: "utf8" })
    if (status !== 0) throw new Error("the package does not compile")
    const [ours, effect] = [new Array<number>(), new Array<number>()]
    const actions = new URL("../../../dist/Actions.js", import.meta.url).href
    for (let round = 0; round < 9; round++) {
      ours.push(child(imported(actions)))
      effect.push(child(imported("effect")))
    }
    return Promise.resolve(median(ours) - median(effect))
  }
}

const figuresOfMemory = () => {
  const script = fileURLToPath(new URL("../bench/memory.mjs", import.meta.url))
  const { status, stderr, stdout } = spawnSync(process.execPath, ["--expose-gc", script], { encoding: "utf8" })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as { readonly perUser: number; readonly grown: number }
}

const memory: Row = {
  name: "memory",
  figure: "KiB per user in memory, of 100,000",
  target: 2,
  measure: () => Promise.resolve(figuresOfMemory().perUser)
}

const eviction: Row = {
  name: "eviction",
  figure: "KiB that memory grows by per user beyond `memoryMaxEntries`",
  target: 0.05,
  measure: () => Promise.resolve(figuresOfMemory().grown)
}

export const rows: ReadonlyArray<Row> = [importing, memory, eviction]
