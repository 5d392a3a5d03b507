/** What somebody types to find a user: a ULID or a UUID, the beginning of one, or the user's number at Cal.com. Pure. */

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
const ulidLength = 26
const most = (1n << 128n) - 1n

const toUlid = (value: bigint): string =>
  Array.from({ length: ulidLength }, (_, place) =>
    alphabet.charAt(Number((value >> BigInt(5 * (ulidLength - 1 - place))) & 31n))
  ).join("")

/** Users from `first` to `last` in the order of keys. */
export interface Range {
  readonly first: string
  readonly last: string
  /** The key before `first`, which a page begins behind; absent at the very beginning. */
  readonly after?: string
}

export type Lookup =
  | { readonly is: "everybody" }
  | { readonly is: "user"; readonly userUlid: string }
  | { readonly is: "range"; readonly range: Range }
  | { readonly is: "calUser"; readonly calUserId: number }
  /** Nobody's name is like that. */
  | { readonly is: "nothing" }

const nothing: Lookup = { is: "nothing" }

/** All keys that begin with these digits, of `bits` each. */
const range = (digits: string, bits: number, value: bigint, width: number): Lookup => {
  const free = BigInt(bits * (width - digits.length))
  const first = value << free
  const last = first + (1n << free) - 1n
  if (last > most) return nothing
  if (first === last) return { is: "user", userUlid: toUlid(first) }
  return {
    is: "range",
    range: { first: toUlid(first), last: toUlid(last), ...(first === 0n ? {} : { after: toUlid(first - 1n) }) }
  }
}

/** The dashes that those of a UUID stand behind. */
const dashed =
  /^[0-9a-f]{8}(-[0-9a-f]{0,4}|-[0-9a-f]{4}-[0-9a-f]{0,4}|-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{0,4}|(-[0-9a-f]{4}){3}-[0-9a-f]{0,12})$/i

/** ULIDs of our time begin with 0, so digits that begin otherwise are a number. */
export const read = (typed: string): Lookup => {
  const text = typed.trim().toUpperCase()
  if (text === "") return { is: "everybody" }
  if (/^[1-9][0-9]{0,14}$/.test(text)) return { is: "calUser", calUserId: Number(text) }
  if (dashed.test(text) || /^[0-9A-F]{32}$/.test(text)) {
    const digits = text.replaceAll("-", "")
    return range(digits, 4, BigInt(`0x${digits}`), 32)
  }
  if (text.length > ulidLength || [...text].some((digit) => !alphabet.includes(digit))) return nothing
  const value = [...text].reduce((sum, digit) => (sum << 5n) + BigInt(alphabet.indexOf(digit)), 0n)
  return range(text, 5, value, ulidLength)
}
