/** The program as users start it: built JavaScript in a process of its own. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { buildSync } from "esbuild"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** `src` as a package in a directory of its own: the program as `npm start` bundles it, and the library beside it. */
export const build = (): string => {
  const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "cal-tokens-built-"))
  const files = Fs.readdirSync(Path.join(root, "src"), { recursive: true, encoding: "utf8" })
  buildSync({
    entryPoints: files
      .filter((file) => file.endsWith(".ts") && !file.startsWith("Page/"))
      .map((file) => Path.join(root, "src", file)),
    outbase: Path.join(root, "src"),
    outdir: Path.join(directory, "dist"),
    format: "esm",
    target: "es2022",
    logLevel: "warning"
  })
  // The later one of two outfiles counts.
  execFileSync("npm", ["run", "--silent", "program", "--", `--outfile=${Path.join(directory, "dist/program.mjs")}`], {
    cwd: root
  })
  Fs.cpSync(Path.join(root, "dist/page"), Path.join(directory, "dist/page"), { recursive: true })
  Fs.copyFileSync(Path.join(root, "package.json"), Path.join(directory, "package.json"))
  Fs.symlinkSync(Path.join(root, "node_modules"), Path.join(directory, "node_modules"))
  return directory
}

export interface Program {
  readonly process: ChildProcess
  readonly stdout: () => string
  readonly stderr: () => string
  /** What a pattern finds in the output, as soon as it does. */
  readonly until: (pattern: RegExp) => Promise<RegExpExecArray>
  readonly exit: Promise<number | null>
}

export const run = (
  directory: string,
  args: ReadonlyArray<string>,
  env: Record<string, string> = {},
  /** Another command than Node gets a group of its own: it may start processes, and not pass signals on. */
  command?: string
): Program => {
  const child = spawn(command ?? process.execPath, [...args], {
    cwd: directory,
    detached: command !== undefined,
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let stdout = ""
  let stderr = ""
  let look = () => {}
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    look()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text))
  const exit = new Promise<number | null>((resolve) => child.on("close", resolve))
  return {
    process: child,
    stdout: () => stdout,
    stderr: () => stderr,
    exit,
    until: (pattern) =>
      Promise.race([
        new Promise<RegExpExecArray>((resolve) => {
          look = () => {
            const found = pattern.exec(stdout)
            if (found !== null) resolve(found)
          }
          look()
        }),
        exit.then((code) => Promise.reject(new Error(`exited with ${code} before ${pattern}: ${stdout}${stderr}`)))
      ])
  }
}

/** What is printed to be exported, as a shell takes it. */
export const exported = (text: string): Record<string, string> => {
  const lines = Array.from(text.matchAll(/^export (\w+)=.*$/gm))
  const names = lines.map(([, name = ""]) => name)
  const script = [...lines.map(([line]) => line), ...names.map((name) => `printf '%s\\0' "$${name}"`)].join("\n")
  const values = execFileSync("bash", ["--norc", "-eu", "-c", script], { encoding: "utf8" }).split("\0")
  return Object.fromEntries(names.map((name, index) => [name, values[index] ?? ""]))
}
