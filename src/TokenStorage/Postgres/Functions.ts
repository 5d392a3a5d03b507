/** The functions in the database, and how they are called. */
import * as Attempts from "./Functions/Attempts.js"
import * as Beside from "./Functions/Beside.js"
import * as Circuits from "./Functions/Circuits.js"
import * as Changes from "./Functions/Changes.js"
import * as Connections from "./Functions/Connections.js"
import * as Due from "./Functions/Due.js"
import type { Definition } from "./Functions/Parts.js"
import * as Reads from "./Functions/Reads.js"
import * as Reencrypt from "./Functions/Reencrypt.js"

export { create } from "./Functions/Parts.js"

/** In the order in which they are installed. */
export const definitions: ReadonlyArray<Definition> = [
  ...Beside.definitions,
  ...Circuits.definitions,
  ...Attempts.definitions,
  ...Due.definitions,
  ...Connections.definitions,
  ...Reads.definitions,
  ...Changes.definitions,
  ...Reencrypt.definitions
]

/** A call, with its parameters to be given in their order. */
export const call = (name: string): string => {
  const definition = definitions.find((each) => each.name === name)
  if (definition === undefined) throw new Error(`no function ${name}`)
  return `select * from cal_tokens.${name}(${definition.parameters.map((_, index) => `$${index + 1}`).join(", ")})`
}
