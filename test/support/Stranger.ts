/** Programs of somebody who installed this package: a directory elsewhere, with the packages that it names and no others. */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { build } from "esbuild"

export interface Stranger {
  /** Runs a module, whose imports of `./Actions.js` and so on are ours. Rejects where it has not ended after a minute. */
  readonly run: (
    module: string,
    env?: Readonly<Record<string, string>>
  ) => Promise<{ readonly code: number; readonly output: string }>
  readonly install: (...packages: ReadonlyArray<string>) => void
  readonly remove: () => void
}

const modules = Path.resolve("node_modules")

/** Some files of `src`, with what they load at once and later. */
export const make = async (...files: ReadonlyArray<string>): Promise<Stranger> => {
  const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-stranger-"))
  await build({
    entryPoints: files.map((file) => `src/${file}`),
    bundle: true,
    splitting: true,
    packages: "external",
    platform: "node",
    format: "esm",
    outdir: directory,
    outExtension: { ".js": ".mjs" },
    logLevel: "silent"
  })
  return {
    run: (module, env = {}) => {
      const program = Path.join(directory, "program.mjs")
      Fs.writeFileSync(program, module)
      return new Promise((resolve, reject) =>
        execFile(
          process.execPath,
          [program],
          { cwd: directory, env: { PATH: process.env["PATH"] ?? "", ...env }, timeout: 60_000, killSignal: "SIGKILL" },
          (error, stdout, stderr) => {
            const output = `${stdout}${stderr}`
            if (error === null) resolve({ code: 0, output })
            else if (typeof error.code === "number") resolve({ code: error.code, output })
            else reject(new Error(`The program did not end by itself: ${output}`))
          }
        )
      )
    },
    install: (...packages) => {
      for (const name of packages) {
        const link = Path.join(directory, "node_modules", name)
        Fs.mkdirSync(Path.dirname(link), { recursive: true })
        Fs.symlinkSync(Path.join(modules, name), link)
      }
    },
    remove: () => Fs.rmSync(directory, { recursive: true, force: true })
  }
}
