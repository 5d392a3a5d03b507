/** How a program would read the answers of the sandbox's `tokensRenamed`: by the names that they have there. */

const renamed: ReadonlyMap<string, string> = new Map([
  ["session", "data"],
  ["bearer", "accesstoken"],
  ["renewal", "refreshtoken"],
  ["validity", "expiresin"]
])

/** `plain` of `CalClient/TokenAnswer/Names`, with the new names as other spellings of the old. See `../Bundle.ts`. */
export const learned =
  (plain: (name: string) => string) =>
  (name: string): string =>
    renamed.get(plain(name)) ?? plain(name)
