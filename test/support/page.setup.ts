/** Builds the page once before all tests: the server takes it from `dist`, whichever way it is started. */
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"

export default function setup(): void {
  execFileSync("npm", ["run", "--silent", "page"], { cwd: fileURLToPath(new URL("../..", import.meta.url)) })
}
