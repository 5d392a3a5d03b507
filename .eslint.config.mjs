import redos from "eslint-plugin-redos"
import tseslint from "typescript-eslint"

export default tseslint.config(
  { ignores: ["dist/**", "test/Next/app/**"] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: ["./tsconfig.json", "./src/Page/tsconfig.json"], tsconfigRootDir: import.meta.dirname }
    },
    rules: {
      "@typescript-eslint/array-type": ["error", { default: "generic" }],
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      // `{}` is how Data.TaggedEnum spells a variant without fields.
      "@typescript-eslint/no-empty-object-type": ["error", { allowObjectTypes: "always" }],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      // `yield*` in Effect.gen is the point of a generator; an empty one is still a valid effect.
      "require-yield": "off",
      "no-restricted-globals": [
        "error",
        { name: "setTimeout", message: "Time goes through Effect's Clock." },
        { name: "setInterval", message: "Time goes through Effect's Clock." }
      ],
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", message: "Time goes through Effect's Clock." },
        { object: "Math", property: "random", message: "Randomness goes through Effect's Random." }
      ]
    }
  },
  {
    files: ["src/**"],
    plugins: { redos },
    rules: {
      // Texts come from outside, and one pattern that looks twice at each character stops the process for all callers.
      "redos/no-vulnerable": ["error", { ignoreErrors: false, timeout: 60_000, cache: { strategy: "aggressive" } }]
    }
  },
  // A browser's clock and timers, which the rest of the page asks for here.
  {
    files: ["src/Page/Clock.ts"],
    rules: { "no-restricted-globals": "off", "no-restricted-properties": "off" }
  },
  {
    files: ["**/*.test.ts"],
    rules: {
      "no-restricted-imports": [
        "error",
        {
          name: "@effect/vitest",
          importNames: ["layer"],
          message: "It changes `it` for all files that come after in the same worker: these run on real time then."
        }
      ]
    }
  }
)
