import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

/** Vitest leaves one processor idle, which is half of two. */
const workers = Math.max(2, availableParallelism() - 1)

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/postgres.setup.ts"],
    // Loading Effect costs each file more than most of its tests; they share no state, so they may share modules.
    isolate: false,
    pool: "forks",
    maxWorkers: workers,
    minWorkers: workers,
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
