/** Which services stand behind a door for promises: those of the environment, or the app's own. */
import { Either, Layer, Runtime } from "effect"
import * as Backing from "./Backing.js"
import type { All } from "./FromEnvironment.js"
import * as Missing from "./Missing.js"
import * as Numbers from "./Numbers.js"

export interface Options<R> {
  readonly layer?: Layer.Layer<R, unknown> | undefined
  readonly config?: Numbers.Config | undefined
}

/** Loaded when it is needed: with layers of one's own, no driver is. */
const load = () => import("./FromEnvironment.js")

const fromEnvironment = (numbers: Numbers.Numbers): Backing.Open<All, unknown> =>
  Object.assign(
    async () => {
      const module = await load().catch((error: unknown) => {
        const missing = Missing.packageOf(error)
        if (missing === undefined) throw error
        return missing
      })
      return typeof module === "string" ? Backing.own(Layer.fail(module))() : module.open(numbers)
    },
    // Without it, what is missing is told all the same.
    {
      logging: () =>
        load().then(
          ({ logging }) => logging(),
          () => Runtime.defaultRuntime
        )
    }
  )

export const make = <R extends All>({ config, layer }: Options<R>): Backing.Open<R, unknown> => {
  const numbers = Numbers.decode(config)
  if (Either.isLeft(numbers)) return Backing.own(Layer.fail(numbers.left))
  if (layer === undefined) return fromEnvironment(numbers.right)
  return Backing.own(config === undefined ? layer : Layer.provideMerge(layer, Numbers.layer(numbers.right)))
}
