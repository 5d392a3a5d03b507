/** Log lines on standard output: for eyes on a terminal, for machines elsewhere. */
import { Effect, Layer, Logger, Option } from "effect"
import { loadLog, type Settings } from "../Environment.js"

const formats = { pretty: Logger.pretty, json: Logger.json, logfmt: Logger.logFmt } as const

export const layer = ({ format, level }: Settings["log"]): Layer.Layer<never> =>
  Layer.merge(
    formats[Option.getOrElse(format, () => (process.stdout.isTTY ? "pretty" : "json"))],
    Logger.minimumLogLevel(level)
  )

/** The same by the environment, for what is logged before there are settings. */
export const layerConfig: Layer.Layer<never> = Layer.unwrapEffect(Effect.map(loadLog, layer))
