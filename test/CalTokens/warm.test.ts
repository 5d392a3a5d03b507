/** What a fresh token costs by each door, counted and not timed: bytes, fibers, spans, promises and whatever else Node waits for. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { build } from "esbuild"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import type { Measured, Taken } from "../support/WarmPath.js"

/** Where the packages that it imports are found. */
const cache = "node_modules/.cache"
let directory: string
let measured: Measured

beforeAll(async () => {
  await Fs.mkdir(cache, { recursive: true })
  directory = await Fs.mkdtemp(join(cache, "warm-"))
  const outfile = join(directory, "program.mjs")
  await build({
    entryPoints: ["test/support/WarmPath.ts"],
    bundle: true,
    packages: "external",
    platform: "node",
    format: "esm",
    outfile
  })
  const flags = ["--expose-gc", "--min-semi-space-size=128", "--max-semi-space-size=256"]
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, outfile])
  measured = JSON.parse(stdout) as Measured
})
afterAll(() => Fs.rm(directory, { recursive: true, force: true }))

/** In bytes, of a call; what the doors themselves take on top of the look. */
const isCheap = ({ kept, perCall }: Taken, most: number) => {
  assert.isAbove(perCall, 0, "the collector ran meanwhile")
  assert.isBelow(perCall, most)
  // Of a hundred thousand calls.
  assert.isBelow(kept, 100_000)
}

describe("a fresh token", () => {
  it("costs a look nothing", () => {
    isCheap(measured.peek, 64)
    assert.deepInclude(measured.peek, { fibers: 0, spans: 0, others: [] })
    assert.isBelow(measured.peek.promises, 10)
  })

  it("costs a program no fiber, span, promise or timer of its own", () => {
    isCheap(measured.program, 1000)
    // The program itself.
    assert.deepInclude(measured.program, { fibers: 1, spans: 0, others: [] })
    assert.isBelow(measured.program.promises, 10)
  })

  it("costs a promise the promise, and that of whoever awaits it", () => {
    isCheap(measured.promises, 500)
    assert.deepInclude(measured.promises, { fibers: 0, spans: 0, others: [] })
    // Of a thousand calls.
    assert.isBelow(measured.promises.promises, 2010)
  })
})

describe("what a refresh costs is seen", () => {
  it.each(["forcedProgram", "forcedPromises"] as const)("with %s", (which) => {
    assert.isAbove(measured[which].fibers, 1)
    assert.isAbove(measured[which].spans, 0)
    assert.isAbove(measured[which].promises, 10)
    assert.include(measured[which].others, "Timeout")
  })
})
