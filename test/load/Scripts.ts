/** What runs beside the service in processes of its own, bundled for a test. */
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import * as Esbuild from "esbuild"

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** In a folder of this name, where no other test writes. */
export const bundle = (name: string): Effect.Effect<{ readonly cal: string; readonly probe: string }> =>
  Effect.promise(async () => {
    const outdir = here(`../../node_modules/.cache/${name}`)
    await Esbuild.build({
      entryPoints: [here("cal.ts"), here("probe.ts")],
      outdir,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      packages: "external",
      platform: "node",
      format: "esm",
      logLevel: "warning"
    })
    return { cal: `${outdir}/cal.mjs`, probe: `${outdir}/probe.mjs` }
  })
