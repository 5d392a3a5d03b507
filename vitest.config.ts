import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/postgres.setup.ts"],
    // Loading Effect costs each file more than most of its tests; they share no state, so they may share modules.
    isolate: false,
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 120_000
  }
})
