/** The secrets of a test run, and a search for them in whatever form text may carry them. */

/** A piece of a secret this long is as bad as the whole. */
const pieceLength = 12

export interface Finding {
  /** Whose secret it is; never the secret. */
  readonly name: string
  readonly form: string
}

export interface Secrets {
  /** Adds a secret. For a JWT the pieces of its payload and signature count, its header does not. */
  readonly add: (name: string, value: string) => void
  /** Adds everything in a text that looks like one of Cal.com's tokens. */
  readonly harvest: (text: string) => void
  readonly names: () => ReadonlyArray<string>
  readonly find: (text: string) => ReadonlyArray<Finding>
}

const jwt = /eyJ[\w-]+\.([\w-]+)\.([\w-]+)/g

export const make = (): Secrets => {
  const known = new Map<string, string>()
  const pieces = new Map<string, Finding>()
  /** Too short for pieces. */
  const wholes = new Map<string, Finding>()

  const addForm = (name: string, form: string, text: string) => {
    if (text.length < pieceLength) {
      if (text.length >= 4) wholes.set(text, { name, form })
      return
    }
    for (let i = 0; i + pieceLength <= text.length; i++) {
      const piece = text.slice(i, i + pieceLength)
      if (!pieces.has(piece)) pieces.set(piece, { name, form })
    }
  }

  const add = (name: string, value: string) => {
    if (value === "" || known.has(value)) return
    known.set(value, name)
    const token = [...value.matchAll(jwt)].flatMap(([, payload = "", signature = ""]) => [payload, signature])
    for (const part of token.length === 2 ? token : [value]) {
      addForm(name, "plain", part)
      addForm(name, "JSON", JSON.stringify(part).slice(1, -1))
      addForm(name, "JSON twice", JSON.stringify(JSON.stringify(part)).slice(3, -3))
      addForm(name, "URL-encoded", encodeURIComponent(part))
      addForm(name, "form-encoded", new URLSearchParams({ x: part }).toString().slice(2))
      addForm(name, "reversed", [...part].reverse().join(""))
      const hex = Buffer.from(part).toString("hex")
      addForm(name, "hex", hex)
      addForm(name, "upper-case hex", hex.toUpperCase())
      // Base 64 looks different depending on where in a group of three bytes the text begins.
      for (const before of [0, 1, 2]) {
        const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(part)])
        for (const encoding of ["base64", "base64url"] as const) {
          const from = before === 0 ? 0 : before + 1
          const whole = Math.floor((bytes.length * 8) / 6)
          addForm(name, encoding, bytes.toString(encoding).slice(from, whole))
        }
      }
    }
  }

  return {
    add,
    harvest: (text) => {
      for (const [token] of text.matchAll(jwt)) add("token", token)
    },
    names: () => [...known.values()],
    find: (text) => {
      const found = new Map<string, Finding>()
      const note = (finding: Finding) => found.set(`${finding.name} ${finding.form}`, finding)
      for (const [whole, finding] of wholes) if (text.includes(whole)) note(finding)
      for (let i = 0; i + pieceLength <= text.length; i++) {
        const finding = pieces.get(text.slice(i, i + pieceLength))
        if (finding !== undefined) note(finding)
      }
      return [...found.values()]
    }
  }
}
