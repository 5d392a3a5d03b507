/**
 * Answers that Cal.com's contract does not know and its deployments may give all the same: after a release nobody was
 * told of, through a proxy, over a bad line. One table: its names are what `Fault.odd` takes, what `/_control` takes, and
 * what `GET /_control/odd-answers` explains.
 *
 * Oddness begins where the answer leaves. Cal.com has done its work by then: the refresh token is spent and the pair is
 * stored as ever, and `Sandbox.isLive` knows which tokens are alive, whatever the caller could read.
 */
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib"
import { HttpBody, HttpServerResponse } from "@effect/platform"
import * as Jwt from "./Jwt.js"
import { type Kind, managedGrants, oauth2Grants } from "./Kind.js"
import * as Tokens from "./Tokens.js"
import * as Users from "./Users.js"
import { bytesOf, half } from "./Wire.js"
import { isRecord, type Incoming, type World } from "./World.js"

type Response = HttpServerResponse.HttpServerResponse

/** An answer on its way, and after how many bytes of its body the connection breaks, if it does. */
export interface Sent {
  readonly response: Response
  readonly cutAt?: number | undefined
}

/** What an odd answer may look at beside the answer. */
export interface Circumstances extends Pick<Incoming, "now" | "switches"> {
  readonly world: World
  /** The refresh token that was presented. */
  readonly refreshToken: string | undefined
  /** `Fault.odd("cut", { at })`. */
  readonly at: number | undefined
}

export interface OddAnswer {
  /** For people. */
  readonly what: string
  /** The requests whose answers can be odd in this way; absent: all of them. */
  readonly kinds?: ReadonlyArray<Kind>
  /** Stands in for Cal.com's answer, so that it can come without Cal.com having done anything (`committed: false`). */
  readonly replaces?: true
  readonly send: (response: Response, circumstances: Circumstances) => Sent
}

type Fields = Readonly<Record<string, unknown>>

/** A pair in one of the two spellings, taken out of its answer. */
interface Grant {
  readonly fields: Fields
  readonly names: typeof managedNames
  /** The answer around these fields instead. */
  readonly around: (fields: Fields) => Fields
}

const managedNames = {
  accessToken: "accessToken",
  refreshToken: "refreshToken",
  expiry: "accessTokenExpiresAt",
  idToken: "idToken"
}
const oauth2Names: typeof managedNames = {
  accessToken: "access_token",
  refreshToken: "refresh_token",
  expiry: "expires_in",
  idToken: "id_token"
}

const grantOf = (response: Response): Grant | undefined => {
  if (response.status < 200 || response.status > 299) return undefined
  const body: unknown = JSON.parse(textOf(response))
  if (!isRecord(body)) return undefined
  const { data } = body
  if (oauth2Names.refreshToken in body) return { fields: body, names: oauth2Names, around: (fields) => fields }
  return isRecord(data) && managedNames.refreshToken in data
    ? { fields: data, names: managedNames, around: (data) => ({ ...body, data }) }
    : undefined
}

/** A change to answers that hold a pair. A refusal leaves as it is. */
const granted =
  (change: (grant: Grant, circumstances: Circumstances) => Fields): OddAnswer["send"] =>
  (response, circumstances) => {
    const grant = grantOf(response)
    return {
      response: grant === undefined ? response : withText(response, JSON.stringify(change(grant, circumstances)))
    }
  }

/** A change to the pair's own fields, the rest of the answer around them. */
const fields = (change: (grant: Grant, circumstances: Circumstances) => Fields) =>
  granted((grant, circumstances) => grant.around(change(grant, circumstances)))

const expiry = (change: (expiry: unknown) => unknown) =>
  fields(({ fields, names }) => ({ ...fields, [names.expiry]: change(fields[names.expiry]) }))

const without = (...absent: ReadonlyArray<keyof typeof managedNames>) =>
  fields(({ fields, names }) => omit(fields, ...absent.map((name) => names[name])))

const coded =
  (coding: string, encode: (bytes: Uint8Array) => Uint8Array): OddAnswer["send"] =>
  (response) => {
    const bytes = bytesOf(response)
    if (bytes.length === 0) return { response }
    return { response: HttpServerResponse.setHeader(withBytes(response, encode(bytes)), "content-encoding", coding) }
  }

const instead =
  (contentType: string, text: string): OddAnswer["send"] =>
  (_, { now }) => ({
    response: HttpServerResponse.text(text, { contentType, headers: { date: new Date(now).toUTCString() } })
  })

const grants = [...managedGrants, ...oauth2Grants]

const table = {
  expiryMissing: {
    what: "No expiry: neither expires_in nor accessTokenExpiresAt.",
    kinds: grants,
    send: without("expiry")
  },
  expiryText: {
    what: 'The expiry as text: "1800" for 1800.',
    kinds: grants,
    send: expiry(String)
  },
  expiryIso: {
    what: "The expiry as an instant in ISO 8601.",
    kinds: grants,
    send: fields(({ fields, names }, { now }) => {
      const expiry = Number(fields[names.expiry])
      const instant = new Date(names === oauth2Names ? now + expiry * 1000 : expiry)
      return { ...fields, [names.expiry]: instant.toISOString() }
    })
  },
  expiryZero: {
    what: "The expiry 0.",
    kinds: grants,
    send: expiry(() => 0)
  },
  expiryNull: {
    what: "The expiry null.",
    kinds: grants,
    send: expiry(() => null)
  },
  nested: {
    what: "The pair one level deeper, under data.",
    kinds: grants,
    send: fields(({ fields }) => ({ data: fields }))
  },
  flat: {
    what: "A managed user's pair at the top, without the envelope.",
    kinds: managedGrants,
    send: granted(({ fields }) => fields)
  },
  otherCase: {
    what: "The other contract's spelling: a managed user's pair in snake_case, an OAuth2 pair in camelCase.",
    kinds: grants,
    send: fields(({ fields }) =>
      Object.fromEntries(Object.entries(fields).map(([key, value]) => [respell(key), value]))
    )
  },
  accessTokenMissing: {
    what: "A refresh token and no access token.",
    kinds: grants,
    send: without("accessToken")
  },
  refreshTokenMissing: {
    what: "An access token and no refresh token, although the one that was presented is spent.",
    kinds: grants,
    send: without("refreshToken")
  },
  refreshTokenKept: {
    what: "An access token and no refresh token, and the one that was presented stays in use (RFC 6749, section 6).",
    kinds: ["refresh", "oauth2Refresh"],
    send: (response, circumstances) => {
      const grant = grantOf(response)
      const issued = grant?.fields[grant.names.refreshToken]
      if (typeof issued === "string" && circumstances.refreshToken !== undefined) {
        Tokens.unrotate(circumstances.world, circumstances.refreshToken, issued)
      }
      return without("refreshToken")(response, circumstances)
    }
  },
  otherUser: {
    what: "A live pair of another Cal.com user. The pair of the right one is stored, and nobody gets to know it.",
    kinds: grants,
    send: fields(({ fields, names }, circumstances) => {
      const token = fields[names.accessToken]
      return typeof token === "string" ? { ...fields, ...pairOfAnother(token, circumstances) } : fields
    })
  },
  tokensMissing: {
    what: "No tokens at all in an answer that is well otherwise.",
    kinds: grants,
    send: without("accessToken", "refreshToken")
  },
  tokensRenamed: {
    what: "Another shape: the pair under names that nobody knows.",
    kinds: grants,
    send: fields(({ fields, names }) => ({
      ...omit(fields, names.accessToken, names.refreshToken, names.expiry),
      session: {
        bearer: fields[names.accessToken],
        renewal: fields[names.refreshToken],
        validity: fields[names.expiry]
      }
    }))
  },
  errorBeside: {
    what: "The pair, and beside it an error that is not null.",
    kinds: grants,
    send: granted(({ around, fields, names }) => ({
      ...around(fields),
      error:
        names === oauth2Names ? "server_error" : { code: "INTERNAL_SERVER_ERROR", message: "Something went wrong." }
    }))
  },
  idTokenBeside: {
    what: "The pair, and beside it an id token.",
    kinds: grants,
    send: fields(({ fields, names }, { now, world }) => {
      const { clientId, ownerId, userId } = Jwt.decode(String(fields[names.accessToken])) ?? {}
      const iat = Math.floor(now / 1000)
      const claims = { iss: "https://app.cal.com", sub: String(ownerId ?? userId), aud: clientId, iat, exp: iat + 3600 }
      return { ...fields, [names.idToken]: Jwt.sign(claims, world.store.signingKey) }
    })
  },
  gzip: { what: "Compressed though nobody asked, refusals too: content-encoding gzip.", send: coded("gzip", gzipSync) },
  br: { what: "The same with content-encoding br.", send: coded("br", brotliCompressSync) },
  deflate: { what: "The same with content-encoding deflate.", send: coded("deflate", deflateSync) },
  cut: {
    what: "The connection breaks in the middle of the body, or after as many bytes of it as `at` says.",
    send: (response, { at }) => ({ response, cutAt: at ?? half(response) })
  },
  cutAfterRefreshToken: {
    what: "The connection breaks when the refresh token has arrived whole, its closing quote included.",
    kinds: grants,
    send: (response) => {
      const grant = grantOf(response)
      if (grant === undefined) return { response }
      const text = textOf(response)
      const token = JSON.stringify(grant.fields[grant.names.refreshToken])
      return { response, cutAt: Buffer.byteLength(text.slice(0, text.indexOf(token) + token.length)) }
    }
  },
  maintenancePage: {
    what: "200 with a web page, as a proxy sends it.",
    replaces: true,
    send: instead(
      "text/html; charset=utf-8",
      "<!DOCTYPE html><html><head><title>Be right back</title></head><body><h1>Be right back</h1></body></html>"
    )
  },
  garbage: {
    what: "200 with a body that calls itself JSON and is none.",
    replaces: true,
    send: instead("application/json; charset=utf-8", '{"status":"success","data":{"acc\u0000\u0007')
  }
} satisfies Record<string, OddAnswer>

/**
 * An answer that no contract knows.
 *
 * @since 0.1.0
 * @category models
 */
export type Name = keyof typeof table

/**
 * All of them, with what is odd about each.
 *
 * @since 0.1.0
 * @category constants
 */
export const names = Object.keys(table) as ReadonlyArray<Name>

export const oddAnswers: Readonly<Record<Name, OddAnswer>> = table

const omit = (fields: Fields, ...names: ReadonlyArray<string>): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)))

const respell = (key: string) =>
  key.includes("_")
    ? key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    : key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

const textOf = (response: Response) => Buffer.from(bytesOf(response)).toString()

const withBytes = (response: Response, bytes: Uint8Array) =>
  HttpServerResponse.setBody(response, HttpBody.uint8Array(bytes, response.body.contentType))

const withText = (response: Response, text: string) => withBytes(response, Buffer.from(text))

/** A pair of the next best other user of the same client, or of a new one. Both are alive. */
const pairOfAnother = (accessToken: string, { now, switches, world }: Circumstances): Fields => {
  const { clientId, ownerId, scope, userId } = Jwt.decode(accessToken) ?? {}
  const id = ownerId ?? userId
  const client = String(clientId)
  const managedBy = ownerId === undefined ? null : client
  const another =
    Users.people(world, managedBy).find((user) => user.id !== id) ??
    Users.create(world, Users.somebodyNew(world, managedBy), managedBy, now)
  if (managedBy !== null) return { ...Tokens.issueManaged(world, client, another.id, now, true) }
  const scopes = Array.isArray(scope) ? scope.map(String) : []
  const pair = Tokens.issueOAuth2(world, client, another.id, scopes, { now, switches })
  return { access_token: pair.accessToken, refresh_token: pair.refreshToken }
}
