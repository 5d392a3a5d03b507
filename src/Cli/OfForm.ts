/** Options that are read as the variables are, with the same words for what is wrong. */
import { Options } from "@effect/cli"
import { Either } from "effect"
import type { Form } from "../Environment/Form.js"

/** No value is shown: some hold secrets. */
export const ofForm = <A>(name: string, pseudoName: string, { expected, parse }: Form<A>): Options.Options<A> =>
  Options.text(name).pipe(
    Options.withPseudoName(pseudoName),
    Options.filterMap((text) => Either.getRight(parse(text)), `--${name} must be ${expected}`)
  )
