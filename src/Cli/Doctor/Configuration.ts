/** Whether the settings are right by themselves. */
import { Effect, Option } from "effect"
import * as Environment from "../../Environment.js"
import * as Form from "../../Environment/Form.js"
import * as Misspelt from "../../Environment/Misspelt.js"
import { count, type Finding, ok, warning, wrong } from "./Finding.js"

const check = "configuration"
const help = "`cal-tokens serve --help` lists the variables and their forms."

/** With names alone: no value is looked at here but by the settings' own reader. */
export const look: Effect.Effect<ReadonlyArray<Finding>> = Effect.gen(function* () {
  const misspelt = Misspelt.found().map((line) =>
    warning(check, /\?$/.test(line) ? line : `${line}.`, "Correct its name, or take it out.")
  )
  const settings = yield* Effect.either(Environment.load)
  if (settings._tag === "Left") return [wrong(check, `${settings.left.message}.`, help), ...misspelt]
  const { allowedOrigins, apiKeys, cal, host, returnUrls, webhook } = settings.right
  const odd: Array<Finding> = []
  if (cal._tag === "Client") {
    const { database, options } = cal
    const oauth2 = [options.oauth2, ...(options.others?.oauth2 ?? [])].flatMap((client) => client ?? [])
    if (database._tag === "Embedded") {
      odd.push(
        warning(
          check,
          "Real users are kept in the embedded database, which is for trying things out.",
          "Set DATABASE_URL and CAL_TOKENS_ENCRYPTION_KEYS."
        )
      )
    }
    if (Form.isPlaintext(options.apiUrl)) {
      odd.push(
        warning(
          check,
          "CAL_API_URL is http: whoever is on the way reads every token.",
          "Use https, or a network of your own."
        )
      )
    }
    if (oauth2.some(({ redirectUrl }) => redirectUrl !== undefined) && returnUrls.length === 0) {
      odd.push(
        warning(
          check,
          "CAL_TOKENS_RETURN_URLS is not set: the consent flow that the service hosts sends nobody back.",
          "List where your app takes people back, unless it hosts the callback itself."
        )
      )
    }
    if (webhook._tag === "None") {
      odd.push(
        warning(
          check,
          "CAL_TOKENS_WEBHOOK_URL is not set: nobody is told when a user has to reconnect.",
          "Set it and CAL_TOKENS_WEBHOOK_SECRET, or watch GET /api/cal/events."
        )
      )
    }
  }
  if (
    !Form.isLoopback(host) &&
    allowedOrigins.length > 0 &&
    Option.isNone(Option.fromNullable(settings.right.publicUrl))
  ) {
    odd.push(
      warning(
        check,
        "Browsers are allowed in, and CAL_TOKENS_PUBLIC_URL does not say where they find the service.",
        "Set it to the https address of the proxy in front."
      )
    )
  }
  const clients =
    cal._tag === "Sandbox" ? "no Cal.com client, so this would be the demo" : count(apiKeys.length, "API key")
  return [ok(check, `The settings agree (${clients}).`), ...odd, ...misspelt]
})
