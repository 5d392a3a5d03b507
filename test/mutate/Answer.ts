/** A draft as it goes over the wire, and what is right to make of it. */
import * as Zlib from "node:zlib"
import type { Draft } from "./Draft.js"
import * as Text from "./Text.js"
import { now, type Role } from "./Tokens.js"

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly chunks: ReadonlyArray<Uint8Array>
  /** Whether the connection breaks after the last of them. */
  readonly isCut: boolean
}

/** What a reader has to do. */
export type Expected =
  /** Take the tokens, and for the rest keep what was there. */
  | {
      readonly _tag: "Take"
      readonly access: "new" | "stored"
      readonly refresh: "new" | "kept"
      readonly expiresAt: number | undefined
      /** Keep the answer as well. */
      readonly isOpen: boolean
    }
  /** Take nothing, and keep the answer. */
  | { readonly _tag: "Keep" }
  /** Take nothing: it broke off too early, or its status says that it is no grant. */
  | { readonly _tag: "Fail" }
  /** Take the tokens or nothing: it breaks off within an encoding, and how much of it can be read is that one's affair. */
  | { readonly _tag: "TakeOrFail" }

const assumedLifetime = 5 * 60_000

const encoders = {
  gzip: (bytes: Uint8Array) => Zlib.gzipSync(bytes),
  br: (bytes: Uint8Array) => Zlib.brotliCompressSync(bytes, { params: { [Zlib.constants.BROTLI_PARAM_QUALITY]: 4 } }),
  deflate: (bytes: Uint8Array) => Zlib.deflateSync(bytes),
  "deflate-raw": (bytes: Uint8Array) => Zlib.deflateRawSync(bytes)
}

const inPieces = (draft: Draft, bytes: Uint8Array): ReadonlyArray<Uint8Array> => {
  const cuts = Array.from({ length: draft.pieces - 1 }, () => draft.prng.int(0, bytes.length)).sort((a, b) => a - b)
  return [...cuts, bytes.length].map((end, index) => bytes.subarray(cuts[index - 1] ?? 0, end))
}

const fieldsOf = (draft: Draft) => {
  const field = (name: string, value: Text.Value | undefined): ReadonlyArray<Text.Field> =>
    value === undefined ? [] : [{ name, value }]
  const copies = (role: Role) =>
    draft.copies.filter((copy) => copy.role === role).flatMap(({ name }) => field(name, draft[role]))
  const access = [...field(draft.names.access, draft.access), ...copies("access")]
  const refresh = [...field(draft.names.refresh, draft.refresh), ...copies("refresh")]
  const expiry = draft.expiry === undefined ? [] : field(draft.expiry.name, draft.expiry.value)
  const all = [...access, ...refresh, ...expiry, ...draft.beside]
  return { access, refresh, expiry, all: draft.isShuffled ? draft.prng.shuffle(all) : all }
}

const wrapped = (draft: Draft, inner: Text.Fields): Text.Value => {
  let value = inner
  for (let depth = draft.depth; depth > 0; depth--) {
    const data = { name: "data", value }
    value = { fields: depth === 1 ? draft.prng.shuffle([...draft.around, data]) : [data] }
  }
  return value
}

export const write = (
  draft: Draft
): { readonly answer: Answer; readonly expected: Expected; readonly text: string } => {
  const { encoding, prng, share } = draft
  const fields = fieldsOf(draft)
  const beside = draft.depth === 0 ? [...fields.all, ...draft.around] : fields.all
  const written = Text.write(prng, draft.wrap(wrapped(draft, { fields: beside })), draft.style)
  const text = draft.edit(written.text)
  const whole = Buffer.from(text)
  const encoded = encoding === undefined || !encoding.isDone ? whole : encoders[encoding.name](whole)
  const bytes = encoded.subarray(0, Math.floor(share * encoded.length))
  const isCut = share < 1

  /** What a reader of so many bytes of the text has to take. */
  const take = (length: number): Extract<Expected, { readonly _tag: "Take" }> => {
    const isThere = (copies: ReadonlyArray<Text.Field>) => copies.some((field) => written.endOf(field) <= length)
    const hasAccess = isThere(fields.access)
    const instants = [draft.accessEnd, isThere(fields.expiry) ? draft.expiry?.means : undefined]
    const end = Math.min(...instants.filter((instant) => instant !== undefined))
    return {
      _tag: "Take",
      access: hasAccess ? "new" : "stored",
      refresh: isThere(fields.refresh) ? "new" : "kept",
      expiresAt: !hasAccess ? undefined : end === Infinity ? now + assumedLifetime : end,
      isOpen: !isThere(fields.refresh) && (draft.mayHoldMore || draft.before.sent === undefined)
    }
  }
  const expect = (): Expected => {
    if (draft.status !== 200) return { _tag: "Fail" }
    if (draft.isForeign) return { _tag: "Keep" }
    const right = take(isCut ? bytes.length : Infinity)
    if (isCut && encoded !== whole) return { _tag: "TakeOrFail" }
    if (right.refresh === "new") return right
    if (isCut && bytes.length < written.end) return { _tag: "Fail" }
    return right.access === "new" ? right : { _tag: "Keep" }
  }

  return {
    answer: {
      status: draft.status,
      headers: {
        "content-type": "application/json",
        date: new Date(now).toUTCString(),
        ...(encoding?.isSaid === true ? { "content-encoding": encoding.name.replace("-raw", "") } : {})
      },
      chunks: inPieces(draft, bytes),
      isCut
    },
    expected: expect(),
    text
  }
}
