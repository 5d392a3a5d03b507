import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
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

export default defineConfig(({ mode }) => ({
  resolve: { alias },
  test: {
    include: [files(mode)],
    globalSetup: ["test/support/postgres.setup.ts"],
    // Loading Effect costs each file more than most of its tests; they share no state, so they may share modules.
    isolate: false,
    pool: "forks",
    // Processes and databases of their own, and measured ones at that: one file at a time.
    fileParallelism: mode === "test",
    maxWorkers: workers,
    minWorkers: workers,
    // For what hangs. What has to be quick says so itself: a machine that is slow is not wrong.
    testTimeout: 300_000,
    hookTimeout: 300_000
  }
}))
