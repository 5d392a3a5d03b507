/**
 * Answers of Cal.com's token endpoints that its contract does not know: how they look, what there is in them for whoever
 * reads them by the rules, and a program that knows more of them than ours. Their looks are those of the sandbox.
 */
import { HttpServerResponse } from "@effect/platform"
import { type Circumstances, type Name, oddAnswers } from "../../src/Sandbox/OddAnswers.js"
import { bytesOf } from "../../src/Sandbox/Wire.js"

export type { Name } from "../../src/Sandbox/OddAnswers.js"

/**
 * What an answer holds: the new pair, or its refresh token at least; an access token and nothing else; a pair that our
 * program cannot find, and a later one can; or nothing of the new pair.
 */
export type Holds = "pair" | "refreshToken" | "accessToken" | "sealed" | "nothing"

const table: Readonly<Record<Name, Holds>> = {
  expiryMissing: "pair",
  expiryText: "pair",
  expiryIso: "pair",
  expiryZero: "pair",
  expiryNull: "pair",
  nested: "pair",
  flat: "pair",
  otherCase: "pair",
  accessTokenMissing: "refreshToken",
  refreshTokenMissing: "accessToken",
  refreshTokenKept: "accessToken",
  otherUser: "nothing",
  tokensMissing: "nothing",
  tokensRenamed: "sealed",
  errorBeside: "sealed",
  idTokenBeside: "pair",
  gzip: "pair",
  br: "pair",
  deflate: "pair",
  cut: "nothing",
  cutAfterRefreshToken: "pair",
  maintenancePage: "nothing",
  garbage: "nothing"
}

export const holds = (name: Name): Holds => table[name]

/** An answer as it left. */
export interface Sent {
  readonly response: HttpServerResponse.HttpServerResponse
  readonly bytes: Uint8Array
  readonly isWhole: boolean
}

/** The look is given to an answer that is as the contract has it. Where Cal.com's own state has a part in it, see there. */
export const send = (name: Name, text: string, now: number): Sent => {
  const headers = { date: new Date(now).toUTCString() }
  const response = HttpServerResponse.text(text, { contentType: "application/json", headers })
  if (name === "otherUser") return sent(response)
  if (name === "idTokenBeside") return sent(HttpServerResponse.text(withIdToken(text, now), { headers }))
  // The rest of it is for those looks that are not given here.
  const circumstances = { now, refreshToken: undefined, at: undefined } as Circumstances
  const { cutAt, response: odd } = oddAnswers[name].send(response, circumstances)
  return sent(odd, cutAt)
}

const sent = (response: HttpServerResponse.HttpServerResponse, cutAt?: number): Sent => ({
  response,
  bytes: bytesOf(response).subarray(0, cutAt),
  isWhole: cutAt === undefined
})

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")

const withIdToken = (text: string, now: number): string => {
  const answer = JSON.parse(text) as Fields
  const seconds = Math.floor(now / 1000)
  const idToken = `${part({ alg: "none" })}.${part({ sub: "1", nonce: "n", iat: seconds, exp: seconds + 3600 })}.a`
  return JSON.stringify(
    isFields(answer["data"]) ? { ...answer, data: { ...answer["data"], idToken } } : { ...answer, id_token: idToken }
  )
}

type Fields = Readonly<Record<string, unknown>>

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null

const known: Readonly<Record<string, string>> = { bearer: "accessToken", renewal: "refreshToken" }

/** The same answer as a newer program sees it, which knows what ours cannot read. */
export const understood = (bytes: Uint8Array): Uint8Array => {
  try {
    return Buffer.from(JSON.stringify(translate(JSON.parse(Buffer.from(bytes).toString()))))
  } catch {
    return bytes
  }
}

const translate = (value: unknown): unknown => {
  if (!isFields(value)) return value
  const { session, ...rest } = value
  const inner = Object.fromEntries(
    Object.entries(rest)
      .filter(([name]) => name !== "error")
      .map(([name, member]) => [name, name === "data" ? translate(member) : member])
  )
  if (!isFields(session)) return inner
  const { validity, ...tokens } = session
  return {
    ...inner,
    ...Object.fromEntries(Object.entries(tokens).map(([name, token]) => [known[name] ?? name, token])),
    ...(Number(validity) > 1e9 ? { accessTokenExpiresAt: validity } : { expires_in: validity })
  }
}

/** What can be seen of the tokens in an answer that is not compressed. */
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString()
