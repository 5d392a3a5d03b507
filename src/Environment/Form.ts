/** Forms of text: what people are told to write, and how it is read. A refusal names the form and never shows the text. */
import { isIP } from "node:net"
import { Duration, Either, LogLevel, Option, Redacted } from "effect"
import type { ClientSecret } from "../CalClient.js"
import * as CalPath from "../CalHttp/CalPath.js"
import * as KeyRing from "../KeyRing.js"

/** A form of text: what people are told to write, and how it is read or what is wrong with it. */
export interface Form<A> {
  readonly expected: string
  readonly parse: (text: string) => Either.Either<A, string>
}

const form = <A>(expected: string, parse: (text: string) => Option.Option<A>): Form<A> => ({
  expected,
  parse: (text) => Either.fromOption(parse(text), () => `must be ${expected}`)
})

const matching = (expected: string, pattern: RegExp): Form<string> =>
  form(
    expected,
    Option.liftPredicate((text: string) => pattern.test(text))
  )

/** The same text, kept from logs. */
const redacted = (self: Form<string>): Form<Redacted.Redacted> => ({
  expected: self.expected,
  parse: (text) => Either.map(self.parse(text), Redacted.make)
})

export const text = matching("printable text without spaces", /^[\x21-\x7e]{1,512}$/)

/**
 * The secret of a Cal.com client, or two with a comma between them while one replaces the other. Cal.com's own have no
 * comma in them: a platform client's is a JWT, an OAuth2 client's is hexadecimal (its `generateSecret`).
 */
export const clientSecret: Form<ClientSecret> = form(
  `${text.expected}, or two such with a comma between them`,
  (value) => {
    const parts = value.split(",").map((part) => Either.getRight(text.parse(part.trim())))
    return Option.flatMap(Option.all(parts), ([first, other, ...more]) =>
      first === undefined || more.length > 0
        ? Option.none()
        : Option.some(other === undefined ? Redacted.make(first) : [Redacted.make(first), Redacted.make(other)])
    )
  }
)

export const path = matching("a path", /^[^\0]+$/)

/** An identifier that becomes part of a path. */
export const identifier = matching("letters, digits, - and _", /^[A-Za-z0-9_-]{1,128}$/)

export const host = matching("an address or a host name", /^[A-Za-z0-9.:-]{1,253}$/)

export const integer = (minimum: number, maximum: number): Form<number> =>
  form(`a whole number from ${minimum} to ${maximum}`, (text) =>
    Option.filter(
      Option.liftPredicate(Number(text), () => /^\d{1,9}$/.test(text)),
      (value) => value >= minimum && value <= maximum
    )
  )

const units = { ms: "millis", s: "seconds", m: "minutes", h: "hours", d: "days" } as const

const durationUpTo = (longest: Duration.DurationInput, expected: string): Form<Duration.Duration> =>
  form(expected, (text) => {
    const [, value, unit] = /^(\d+(?:\.\d+)?) ?([a-z]+)$/.exec(text) ?? []
    const short = Object.entries(units).find(([short, long]) => unit === short || unit === long || `${unit}s` === long)
    return short === undefined
      ? Option.none()
      : Option.filter(
          Duration.decodeUnknown(`${value} ${short[1]}`),
          (duration) => Duration.greaterThan(duration, Duration.zero) && Duration.lessThanOrEqualTo(duration, longest)
        )
  })

/** For calls. */
export const duration = durationUpTo("10 minutes", 'a duration up to 10 minutes, such as "5 s" or "500 ms"')

/** For what people do. */
export const period = durationUpTo("30 days", 'a duration up to 30 days, such as "12 h" or "7 d"')

/** The keys of a ring, which are looked at and kept as text. */
export const encryptionKeys: Form<Redacted.Redacted> = {
  expected: KeyRing.expected,
  parse: (text) => {
    const keys = Redacted.make(text)
    return Either.map(KeyRing.parseKeys(keys), () => keys)
  }
}

/** As OAuth2 writes them, or with commas; Cal.com adds new ones, so only their form is looked at. */
export const scopes: Form<ReadonlyArray<string>> = form(
  "a list of scopes such as BOOKING_READ PROFILE_READ",
  (text) => {
    const names = text.split(/[\s,]+/).filter((name) => name !== "")
    return Option.liftPredicate(
      names,
      () => names.length > 0 && names.every((name) => /^[\x21\x23-\x5b\x5d-\x7e]{1,128}$/.test(name))
    )
  }
)

export const oneOf = <const A extends string>(...values: ReadonlyArray<A>): Form<A> =>
  form(`one of ${values.join(", ")}`, (text) =>
    Option.fromNullable(values.find((value) => value === text.toLowerCase()))
  )

export const logLevels = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warn: LogLevel.Warning,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  fatal: LogLevel.Fatal,
  none: LogLevel.None
} as const

export const logLevel = oneOf(...(Object.keys(logLevels) as Array<keyof typeof logLevels>))

export const flag: Form<boolean> = form("1 or 0", (text) =>
  Option.map(
    Option.liftPredicate(text, () => /^[01]$/.test(text)),
    (text) => text === "1"
  )
)

/** A host of a URL or an address to listen on that only this machine reaches. */
export const isLoopback = (host: string) => /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i.test(host)

/** Where secrets are sent. Whether `http` will do is for the settings to say. Without a trailing slash. */
export const secureUrl: Form<string> = form(
  "an https URL without query (http only for localhost, or with CAL_API_ALLOW_HTTP=1)",
  (text) =>
    Option.map(
      Option.filter(
        parseUrl(text),
        ({ hash, password, protocol, search, username }) =>
          /^https?:$/.test(protocol) && `${username}${password}${search}${hash}` === ""
      ),
      (url) => CalPath.withoutSlashes(url.href)
    )
)

/** Whether what is sent there can be read on the way. */
export const isPlaintext = (url: string): boolean => {
  const { hostname, protocol } = new URL(url)
  return protocol === "http:" && !isLoopback(hostname)
}

/** Where this service posts to, which others need not know: https, or http to this machine. */
export const hookUrl = redacted(
  form("an https URL without fragment (http only for localhost)", (text) =>
    Option.as(
      Option.filter(
        parseUrl(text),
        ({ hash, hostname, protocol }) =>
          (protocol === "https:" || (protocol === "http:" && isLoopback(hostname))) && hash === ""
      ),
      text
    )
  )
)

/** Without a scheme it is http, as curl has it. */
export const proxyUrl = redacted(
  form("a URL http(s)://user:password@host:port, of which the host is enough", (text) => {
    const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`
    return Option.as(
      Option.filter(
        parseUrl(url),
        ({ hash, password, pathname, protocol, search, username }) =>
          /^https?:$/.test(protocol) &&
          /^\/?$/.test(`${pathname}${search}${hash}`) &&
          (username === "") === (password === "") &&
          isEscaped(username + password)
      ),
      url
    )
  })
)

const isEscaped = (text: string) => Option.isSome(Option.liftThrowable(decodeURIComponent)(text))

/** Whatever other programs read into it: what is no host here matches none. */
export const hosts = matching("a list of hosts such as cal.internal,.example.com", /^[\x20-\x7e]+$/)

/** A key as Standard Webhooks write it, of 24 to 64 bytes. */
export const hookSecret = redacted(
  form("whsec_ and the base64 of 24 to 64 bytes, for example whsec_$(openssl rand -base64 32)", (text) => {
    const [, encoded = ""] = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text) ?? []
    const bytes = Buffer.from(encoded, "base64")
    return Option.liftPredicate(
      text,
      () => bytes.length >= 24 && bytes.length <= 64 && bytes.toString("base64") === encoded
    )
  })
)

/** Where browsers are sent. Kept as it is written: Cal.com compares it letter by letter. */
export const browserUrl: Form<string> = form("an http(s) URL without fragment", (text) =>
  Option.as(
    Option.filter(parseUrl(text), ({ hash, protocol }) => /^https?:$/.test(protocol) && hash === ""),
    text
  )
)

export const origin: Form<string> = form("an origin such as https://app.example.com", (text) =>
  Option.as(
    Option.filter(parseUrl(text), (url) => /^https?:$/.test(url.protocol) && url.origin === text),
    text
  )
)

/** Whatever the driver takes: with `?host=/directory` the host in the URL may be empty, which `URL` refuses. */
export const postgresUrl = redacted(
  form("a URL postgres://user:password@host:port/database", (text) =>
    Option.as(
      Option.filter(parseUrl(text.replace("@/", "@socket/")), ({ protocol }) => /^postgres(ql)?:$/.test(protocol)),
      text
    )
  )
)

/** Where telemetry is sent. Keys of collectors belong into headers. */
export const collectorUrl: Form<string> = form("an http(s) URL without credentials, query and fragment", (text) =>
  Option.map(
    Option.filter(
      parseUrl(text),
      ({ hash, password, protocol, search, username }) =>
        /^https?:$/.test(protocol) && `${username}${password}${search}${hash}` === ""
    ),
    (url) => url.href
  )
)

/** As the baggage of W3C has it: values may have escapes. */
const pairs: Form<Readonly<Record<string, string>>> = form("a list key=value,key=value", (text) =>
  Option.map(
    Option.all(
      text.split(",").map((pair) => {
        const [key = "", ...rest] = pair.split("=")
        const isPair = /^[\w!#$%&'*+.^`|~/-]+$/.test(key.trim()) && rest.length > 0
        return isPair
          ? Option.map(unescaped(rest.join("=").trim()), (value) => [key.trim(), value] as const)
          : Option.none()
      })
    ),
    (entries): Readonly<Record<string, string>> => Object.fromEntries(entries)
  )
)

const unescaped = Option.liftThrowable(decodeURIComponent)

export const attributes = pairs

/** The same as headers of requests, kept from logs. */
export const headers: Form<Redacted.Redacted<Readonly<Record<string, string>>>> = {
  expected: pairs.expected,
  parse: (text) =>
    Either.flatMap(pairs.parse(text), (headers) =>
      Object.values(headers).every((value) => /^[\x20-\x7e]*$/.test(value))
        ? Either.right(Redacted.make(headers))
        : Either.left(`must be ${pairs.expected}`)
    )
}

export const share: Form<number> = form("a number from 0 to 1", (text) =>
  Option.filter(
    Option.liftPredicate(Number(text), () => /^\d(\.\d{1,9})?$/.test(text)),
    (value) => value <= 1
  )
)

/** An address, or a network in CIDR notation. */
export const network: Form<string> = form("an IP address or a network such as 10.0.0.0/8", (text) => {
  const [address = "", bits, ...rest] = text.split("/")
  const version = isIP(address)
  const fits = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128))
  return Option.liftPredicate(text, () => version !== 0 && fits && rest.length === 0)
})

export const list = <A>(item: Form<A>): Form<ReadonlyArray<A>> =>
  form(`a comma-separated list, each ${item.expected}`, (text) =>
    Option.all(text.split(",").map((entry) => Either.getRight(item.parse(entry.trim()))))
  )

function parseUrl(text: string): Option.Option<URL> {
  return URL.canParse(text) ? Option.some(new URL(text)) : Option.none()
}
