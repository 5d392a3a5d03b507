/** The way to other servers, as the variables set it. */
import { Layer } from "effect"
import { type Options, Proxies } from "../CalHttp/Proxies.js"
import * as Tried from "../CalHttp/Tried.js"
import type { Values } from "./Variables.js"

/** What the log says of a Cal.com that was not reached names the variables to look at. */
export const layerNames: Layer.Layer<never> = Layer.succeed(Tried.Names, {
  apiUrl: "CAL_API_URL",
  httpProxy: "HTTP_PROXY",
  httpsProxy: "HTTPS_PROXY"
} satisfies Record<keyof Tried.Names["Type"], keyof Values>)

export const layer = (proxies: Options): Layer.Layer<never> => Layer.merge(Layer.succeed(Proxies, proxies), layerNames)
