/** PostgreSQL and PgBouncer refuse to run as root: any other user will do. */
import { execFileSync } from "node:child_process"

/** Whom to start a program as; nobody else, where this is not root. */
export const unprivileged = (): { readonly uid?: number; readonly gid?: number } => {
  if (process.getuid?.() !== 0) return {}
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag: string) => Number.parseInt(execFileSync("id", [flag, name], { encoding: "utf8" }), 10)
      return { uid: id("-u"), gid: id("-g") }
    } catch {
      // No such user.
    }
  }
  return {}
}
