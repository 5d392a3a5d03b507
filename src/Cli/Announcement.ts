/** What the demo tells whoever started it. */
import { Duration, Effect, Redacted } from "effect"
import { CalTokens } from "../CalTokens.js"
import { accessTokenLifetime, ada, cem, sandboxPath } from "../Environment/Demo.js"
import type { TokenError } from "../TokenError.js"

/** The text, with commands as single lines of plain ASCII that begin with `curl`. */
export const make = (options: {
  readonly url: string
  readonly directory: string
  readonly key: Redacted.Redacted
}): Effect.Effect<string, TokenError, CalTokens> =>
  Effect.gen(function* () {
    const tokens = yield* CalTokens
    const { connection } = yield* tokens.info(ada.userUlid)
    const { directory, url } = options
    const key = Redacted.value(options.key)
    const authorized = `curl -sSw '\\n' -H 'Authorization: Bearer ${key}'`
    const post = (path: string, body: unknown) =>
      `${authorized} -H 'Content-Type: application/json' -d '${JSON.stringify(body)}' ${url}${path}`
    const me = `${authorized} ${url}/api/cal/proxy/${ada.userUlid}/me`
    const expire = `curl -sSfw '\\n' -X POST ${url}${sandboxPath}/_control/users/${connection.calUserId ?? 0}/expire`
    return [
      `cal-tokens listens on ${url}`,
      "",
      "No Cal.com client is configured, so this is a demo: a simulated Cal.com with",
      `three users (Ada, Ben, Cem) whose access tokens live ${Duration.toSeconds(accessTokenLifetime)} seconds.`,
      `Its data is in ${directory}. The API key is`,
      "",
      key,
      "",
      `Look: ${url}/`,
      "",
      "Make sure that Ada's token is valid:",
      "",
      post("/api/cal/ensure-token", { userUlid: ada.userUlid }),
      "",
      "Force a refresh of Cem's:",
      "",
      post("/api/cal/refresh-token", { userUlid: cem.userUlid, forceRefresh: true }),
      "",
      "Ask Cal.com who Ada is:",
      "",
      me,
      "",
      "Let Cal.com expire Ada's token, then ask again:",
      "",
      `${expire} && ${me}`,
      "",
      `All endpoints, to be tried out in a browser: ${url}/docs`,
      `What the simulated Cal.com can be told: ${url}${sandboxPath}/_control`,
      "",
      "Stop with Ctrl-C.",
      ""
    ].join("\n")
  })
