/** HTTP clients that a program may have in the place of ours. */
import { FetchHttpClient } from "@effect/platform"
import { identity, Layer } from "effect"
import { ApiHttp, layerBoth, TokenHttp } from "../../src/CalHttp/HttpClients.js"
import { layerApiHttp } from "../../src/CalHttp/Node.js"

export const fetch = layerBoth(FetchHttpClient.layer)

/** What token calls are never given by accident: connections that are used again. */
export const reusing: Layer.Layer<TokenHttp> = Layer.project(layerApiHttp, ApiHttp, TokenHttp, identity)
