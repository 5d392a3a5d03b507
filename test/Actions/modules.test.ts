/** Whoever imports the promise door loads what it needs at once, and nothing of the other doors or of a driver. */
import { assert, it } from "vitest"
import { build } from "esbuild"

it("`cal-tokens/actions` loads no server, command line, driver or simulator, and of the platform what it uses", async () => {
  const { metafile } = await build({
    entryPoints: ["src/Actions.ts"],
    bundle: true,
    splitting: true,
    packages: "external",
    platform: "node",
    format: "esm",
    outdir: "unused",
    write: false,
    metafile: true,
    logLevel: "silent"
  })
  const loaded = new Set<string>()
  const packages = new Set<string>()
  const visit = (file: string) => {
    if (loaded.has(file)) return
    loaded.add(file)
    for (const { external, kind, path } of metafile.inputs[file]?.imports ?? []) {
      // What is imported later is imported by whoever needs it.
      if (kind === "dynamic-import") continue
      if (external === true) packages.add(path)
      else visit(path)
    }
  }
  visit("src/Actions.ts")
  assert.isAbove(loaded.size, 50)
  assert.deepStrictEqual(
    [...loaded].filter((file) =>
      /^src\/(Http|Cli|Api|Environment|Node|Sandbox|Testing|Embedded|Webhook|TokenStorage\/Postgres)\b/.test(file)
    ),
    []
  )
  // The platform's index loads three times as much as all of this.
  assert.sameMembers(
    [...packages].filter((name) => !/^(node:|@effect\/platform\/[A-Z])/.test(name)),
    ["effect", "jose/jwt/decode", "lru-cache"]
  )
})
