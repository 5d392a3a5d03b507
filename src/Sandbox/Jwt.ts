/**
 * HS256 JSON Web Tokens as Cal.com signs them.
 *
 * Written over `node:crypto` and not with `jose`: jose signs through WebCrypto and therefore always answers with a
 * promise, which would split "check the row and rotate it" into several steps and let other requests in between. A
 * synchronous signature keeps each transition of the simulator one indivisible step, and is several times cheaper.
 */
import { createHmac } from "node:crypto"

export type Claims = Readonly<Record<string, unknown>>

const header = Buffer.from(JSON.stringify({ alg: "HS256", typ: "JWT" })).toString("base64url")

/** A compact HS256 token over these claims, in this order. */
export const sign = (claims: Claims, key: string): string => {
  const body = `${header}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`
  return `${body}.${signature(body, key)}`
}

/**
 * The claims of a token whose signature is right and whose `exp`, if it has one, lies ahead of `now` (milliseconds).
 * Managed-user tokens carry no `exp`: their age is a matter of Cal.com's database.
 */
export const verify = (token: string, key: string, now: number): Claims | undefined => {
  const dot = token.lastIndexOf(".")
  if (dot < 0 || token.slice(dot + 1) !== signature(token.slice(0, dot), key)) return undefined
  const claims = decode(token)
  if (claims === undefined) return undefined
  return typeof claims.exp === "number" && Math.floor(now / 1000) >= claims.exp ? undefined : claims
}

/** The claims of anything that looks like a JWT, without any check. For labels, never for decisions. */
export const decode = (token: string): Claims | undefined => {
  const payload = token.split(".")[1]
  if (payload === undefined) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString())
    return typeof claims === "object" && claims !== null ? (claims as Claims) : undefined
  } catch {
    return undefined
  }
}

const signature = (body: string, key: string) => createHmac("sha256", key).update(body).digest("base64url")
