/** Log lines on standard output: for eyes on a terminal, for machines elsewhere. */
import { Layer, Logger, Option } from "effect"
import type { Settings } from "../Environment.js"

const formats = { pretty: Logger.pretty, json: Logger.json, logfmt: Logger.logFmt } as const

export const layer = ({ format, level }: Settings["log"]): Layer.Layer<never> =>
  Layer.merge(
    formats[Option.getOrElse(format, () => (process.stdout.isTTY ? "pretty" : "json"))],
    Logger.minimumLogLevel(level)
  )
