import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"
import tsconfig from "./tsconfig.json" with { type: "json" }

/** Vitest leaves one processor idle, which is half of two. */
const workers = Math.max(2, availableParallelism() - 1)

/** What takes longer has a name of its own and a run of its own: `npm run test:fleet`, `test:package`, `test:scale`. */
const files = (mode: string) =>
  ["fleet", "package", "scale"].includes(mode) ? `test/**/*.${mode}.ts` : "test/**/*.test.ts"

/** Examples import the package by its name, as their readers will; here that is `src`. */
const alias = Object.entries(tsconfig.compilerOptions.paths).map(([name, [file]]) => ({
  find: new RegExp(`^${name}$`),
  replacement: fileURLToPath(new URL(String(file), import.meta.url))
}))

/** Two fleets at once wait more than they compute. The one that takes longest begins, whatever the size of its file. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>) {
    const isLong = ({ moduleId }: TestSpecification) => moduleId.endsWith("/Rotation.fleet.ts")
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

export default defineConfig(({ mode }) => ({
  resolve: { alias },
  test: {
    include: [files(mode)],
    globalSetup: [
      mode === "package" ? "test/support/package.setup.ts" : "test/support/page.setup.ts",
      "test/support/postgres.setup.ts"
    ],
    // Loading Effect costs each file more than most of its tests; they share no state, so they may share modules. Of what is
    // measured some has the clock of tests and some does not, which `layer` of @effect/vitest sets for a whole process.
    isolate: mode === "scale",
    pool: "forks",
    // Processes and databases of their own, and measured ones at that: one file at a time, and two of fleets.
    fileParallelism: mode === "test" || mode === "fleet",
    maxWorkers: mode === "fleet" ? 2 : workers,
    minWorkers: mode === "fleet" ? 2 : workers,
    sequence: { sequencer: LongestFirst },
    // For what hangs. What has to be quick says so itself: a machine that is slow is not wrong.
    testTimeout: 300_000,
    hookTimeout: 300_000
  }
}))
