/**
 * Which address of Cal.com was tried in vain. For the log alone, beside what an error says: callers are told no addresses of
 * ours, and what it says may be stored and answered.
 */
import { Context, Effect, Predicate } from "effect"
import type { NoReply, Through } from "./Transport.js"

/** What the settings are called by whoever made them: in code, options. */
export class Names extends Context.Reference<Names>()("cal-tokens/CalHttp/Tried/Names", {
  defaultValue: (): Record<"apiUrl" | Through["option"], string> => ({
    apiUrl: "apiUrl",
    httpProxy: "httpProxy",
    httpsProxy: "httpsProxy"
  })
}) {}

/** Fields of a log line. */
type Fields = Readonly<Record<string, string | number>>

/** Not enumerable, so that it is neither encoded nor shown. A map would not do: Effect wraps what fails within a span. */
const fields: unique symbol = Symbol.for("cal-tokens/CalHttp/Tried/fields")

const write = <E extends object>(error: E, value: Fields): E => Object.defineProperty(error, fields, { value })

/** What the line of this error has besides. */
export const fieldsOf = (error: unknown): Fields =>
  Predicate.hasProperty(error, fields) ? (error[fields] as Fields) : {}

/** The same for an error in other words. */
export const carry = <E extends object>(from: object, to: E): E => write(to, fieldsOf(from))

/** Notes the address beside an error that comes of a request for which no connection was made. */
export type Note = <E extends object>(error: E, noReply: NoReply) => E

/** For whoever makes the requests to this base URL, which may hold what is nobody's business. */
export const make = (apiUrl: string): Effect.Effect<Note> =>
  Effect.map(Names, (names) => {
    const url = URL.canParse(apiUrl) ? new URL(apiUrl) : undefined
    return (error, { phase, through }) => {
      if (phase !== "notConnected" || url === undefined) return error
      const proxy = through === undefined ? "" : ` through the proxy ${through.proxy} (set by ${names[through.option]})`
      return write(error, {
        "server.address": url.hostname.replace(/^\[(.*)\]$/, "$1"),
        "server.port": url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port),
        tried: `${url.origin} (set by ${names.apiUrl})${proxy}`
      })
    }
  })
