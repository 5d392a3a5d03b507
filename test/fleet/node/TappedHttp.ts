/** Takes the place of `CalHttp/Node` in the service: the same, with the steps at which a process can die. */
import { HttpClient } from "@effect/platform"
import { Effect, Layer } from "effect"
import { TokenHttp } from "../../../src/CalHttp/HttpClients.js"
import * as NodeHttp from "../../../src/CalHttp/Node.js"
import * as Death from "./Death.js"

export * from "../../../src/CalHttp/Node.js"

const callOf = (url: string) =>
  url.endsWith("/force-refresh") ? "reissue" : Death.attempt.isProbe ? "probe" : "refresh"

const tapped = (client: HttpClient.HttpClient): HttpClient.HttpClient =>
  HttpClient.transform(client, (answer, request) =>
    Effect.suspend(() => {
      const call = callOf(request.url)
      return Death.at(`${call}:before`).pipe(Effect.zipRight(answer), Effect.zipLeft(Death.at(`${call}:after`)))
    })
  )

export const layerTokenHttp: typeof NodeHttp.layerTokenHttp = Layer.provide(
  Layer.effect(TokenHttp, Effect.map(TokenHttp, tapped)),
  NodeHttp.layerTokenHttp
)
