/** The packages that only some doors need, and which npm therefore leaves to whoever installs this one. */

/** What services by the environment need beside `effect` and `@effect/platform`; their own peers come along. */
const drivers: ReadonlyArray<string> = ["@effect/platform-node", "@effect/sql", "@effect/sql-pg"]

/** Node names the package and the file that asks for it, whose path is nobody's business. */
const named = /^Cannot find (?:package|module) '(@effect\/[\w.-]+)/

/** Where a module could not be loaded for want of a package: which one, and how all of them are installed, in one line. */
export const packageOf = (error: unknown): string | undefined => {
  const [, name] = (error instanceof Error ? named.exec(error.message) : null) ?? []
  if (name === undefined) return undefined
  // Without a version npm takes one of another line of Effect.
  const wanted = [...new Set([...drivers, name])].map((it) => `${it}@0`).join(" ")
  return `the package ${name} is missing; install what actions without a layer of their own need with \`npm i ${wanted}\``
}
