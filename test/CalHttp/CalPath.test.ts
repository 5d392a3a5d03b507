import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import * as CalPath from "../../src/CalHttp/CalPath.js"

const base = "https://api.cal.com/v2"
const isAccepted = (target: string) => Either.isRight(CalPath.resolve(base, target))

describe("CalPath accepts", () => {
  it.each([
    ["/me", `${base}/me`],
    ["/bookings?take=10&skip=0", `${base}/bookings?take=10&skip=0`],
    ["/bookings?status=upcoming,past", `${base}/bookings?status=upcoming,past`],
    ["/bookings?eventTypeIds[]=1&eventTypeIds[]=2", `${base}/bookings?eventTypeIds[]=1&eventTypeIds[]=2`],
    ["/bookings?attendeeEmail=ada%40example.com", `${base}/bookings?attendeeEmail=ada%40example.com`],
    ["/bookings?attendeeEmail=ada@example.com", `${base}/bookings?attendeeEmail=ada@example.com`],
    [
      "/bookings?afterStart=2026-03-14T09:26:53.000%2B01:00",
      `${base}/bookings?afterStart=2026-03-14T09:26:53.000%2B01:00`
    ],
    ["/bookings?x=%252e%252e%2F..%5c/../%00", `${base}/bookings?x=%252e%252e%2F..%5c/../%00`],
    ["/bookings?a=b?c=d", `${base}/bookings?a=b?c=d`],
    ["/bookings?", `${base}/bookings?`],
    ["/bookings/kDAVPp3sSUXzVtNpFdSFDk/cancel", `${base}/bookings/kDAVPp3sSUXzVtNpFdSFDk/cancel`],
    ["/event-types/12", `${base}/event-types/12`],
    ["/schedules/default", `${base}/schedules/default`],
    ["/schedules/", `${base}/schedules/`],
    [
      "/slots?eventTypeId=1&start=2026-03-14&timeZone=Europe/Rome",
      `${base}/slots?eventTypeId=1&start=2026-03-14&timeZone=Europe/Rome`
    ],
    ["/calendars/google/check", `${base}/calendars/google/check`],
    ["/organizations/1/teams/2/event-types", `${base}/organizations/1/teams/2/event-types`],
    ["/teams/1/memberships/me.and-you_~", `${base}/teams/1/memberships/me.and-you_~`],
    [
      "/conferencing/zoom/oauth/auth-url?returnTo=https%3A%2F%2Fexample.com",
      `${base}/conferencing/zoom/oauth/auth-url?returnTo=https%3A%2F%2Fexample.com`
    ],
    ["/x/%C3%A9t%C3%A9", `${base}/x/%C3%A9t%C3%A9`],
    ["/x/a%20b", `${base}/x/a%20b`],
    ["/.well-known", `${base}/.well-known`],
    ["/a..b/v1.2", `${base}/a..b/v1.2`],
    ["/v2/me", `${base}/v2/me`],
    ["/", `${base}/`]
  ])("%s", (target, url) => {
    assert.deepStrictEqual(CalPath.resolve(base, target), Either.right(url))
  })

  it("a path below any base", () => {
    for (const [root, url] of [
      ["https://api.cal.com/v2/", "https://api.cal.com/v2/me"],
      ["http://127.0.0.1:4000", "http://127.0.0.1:4000/me"],
      ["http://[::1]:4000/a/b", "http://[::1]:4000/a/b/me"]
    ] as const) {
      assert.deepStrictEqual(CalPath.resolve(root, "/me"), Either.right(url))
    }
  })

  it("an absolute URL that begins with the base", () => {
    assert.deepStrictEqual(CalPath.resolveUrl(base, `${base}/me?x=1`), Either.right(`${base}/me?x=1`))
    assert.deepStrictEqual(CalPath.resolveUrl(`${base}/`, `${base}/me`), Either.right(`${base}/me`))
    assert.deepStrictEqual(CalPath.resolveUrl(base, "/me"), Either.right(`${base}/me`))
  })

  it("a target of the longest length, and no longer", () => {
    const target = `/${"x".repeat(CalPath.maxLength - 1)}`
    assert.isTrue(isAccepted(target))
    assert.isFalse(isAccepted(`${target}x`))
  })
})

describe("CalPath refuses", () => {
  it.each([
    // another origin
    "",
    "me",
    "https://evil.example/",
    "HTTPS://api.cal.com/v2/me",
    "https:/evil.example",
    "javascript:alert(1)",
    "//evil.example/me",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "@evil.example/me",
    ":pw@evil.example/",
    ".evil.example/me",
    "/@evil.example",
    "/me@evil.example",
    "/%40evil.example",
    " /me",
    "/me ",
    "?x=1",
    "#x",
    // another path
    "/..",
    "/../v1/me",
    "/./me",
    "/me/.",
    "/bookings/../../oauth/x/refresh",
    "/bookings/..",
    "/bookings/.../x",
    "/%2e%2e/v1",
    "/%2E%2e/v1",
    "/.%2e/v1",
    "/%2e./v1",
    "/%2e/v1",
    "/%252e%252e/v1",
    "/%25252e/v1",
    "/..%2fv1",
    "/..%5cv1",
    "/x%2fy",
    "/x%2Fy",
    "/x%5cy",
    "/x%5Cy",
    "/..;/v1",
    "/..;a=b/v1",
    "/..%3b/v1",
    "/..%20/v1",
    "/x//y",
    "/x//",
    "/%c0%ae%c0%ae/v1",
    "/%c0%af",
    "/%ff",
    "/%ef%bc%8e%ef%bc%8e/v1",
    "/%ef%bc%8f%ef%bc%8fevil.example",
    "/%E2%80%A5/v1",
    // other parsers' ends
    "/me#x",
    "/me?x#y",
    "/me%23x",
    "/me%3fx=1",
    "/me%00",
    "/me%0d%0aHost:%20evil.example",
    "/me%7f",
    "/me%C2%85",
    "/me\r\nHost: evil.example",
    "/me?x=1\r\nHost: evil.example",
    "/me?x=\u0000",
    "/m\u00e9",
    "/me?x=\u00e9",
    "/me\u2028",
    "/\uff0e\uff0e/v1",
    "/\u2025/v1",
    "/me?x=a b",
    "/me?x=\\",
    '/me?x="',
    "/me?x=<>",
    "/me?x=`",
    "/me?x={}",
    "/me?x=a|b",
    "/me?x=a^b",
    "/[x]",
    "/{x}",
    "/x|y",
    "/x^y",
    '/"x"',
    "/<x>",
    "/x\\y",
    // escapes that are none
    "/%",
    "/%2",
    "/%zz",
    "/%u002e",
    "/me?x=%",
    "/me?x=100%"
  ])("%j", (target) => {
    const result = CalPath.resolve(base, target)
    assert(Either.isLeft(result))
    assert.strictEqual(result.left._tag, "InvalidInput")
    assert.strictEqual(result.left.field, "path")
    // The refusal never quotes: the target may hold anything. Its texts have an example with this path.
    if (target.length > 6) assert.notInclude(result.left.message, target)
  })

  it.each([
    "https://api.cal.com/v1/me",
    "https://api.cal.com/v20/me",
    "https://api.cal.com/v2",
    "https://api.cal.com/v2/../v1",
    "https://api.cal.com/v2//evil.example",
    "https://api.cal.com/v2@evil.example/",
    "https://api.cal.com@evil.example/v2/me",
    "https://user:pw@api.cal.com/v2/me",
    "https://api.cal.com:8443/v2/me",
    "https://api.cal.com.evil.example/v2/me",
    "http://api.cal.com/v2/me",
    "https://evil.example/?https://api.cal.com/v2/me"
  ])("the absolute URL %s", (url) => {
    assert.isTrue(Either.isLeft(CalPath.resolveUrl(base, url)))
  })

  it.each(["", "api.cal.com/v2", "ftp://api.cal.com", "https://api.cal.com/v2?x=1", "https://api.cal.com/v2#x"])(
    "everything below the base %j",
    (wrong) => {
      const result = CalPath.resolve(wrong, "/me")
      assert(Either.isLeft(result))
      assert.strictEqual(result.left.field, "apiUrl")
    }
  )
})

describe("token endpoints", () => {
  const isRefused = (target: string) => {
    // Only what is a path at all is judged.
    assert.isTrue(isAccepted(target), target)
    return Either.isLeft(CalPath.refuseTokenEndpoints(target))
  }

  it.each([
    "/oauth/client/refresh",
    "/oauth/client/exchange?x=1",
    "/oauth",
    "/oauth/",
    "/oauth?x=/me",
    "/oauth-clients/client/users",
    "/oauth-clients/client/users/1/force-refresh",
    "/auth/oauth2/token",
    "/auth/oauth2/clients/client",
    // the same with what a gateway adds or cuts off
    "/api/oauth/client/refresh",
    "/v2/oauth/client/refresh",
    "/api/v2/auth/oauth2/token",
    "/v2/api/auth/oauth/token",
    "/v1/v2/oauth-clients",
    "/API/V2/oauth-clients",
    // the same for readers who are lenient
    "/OAuth/client/refresh",
    "/AUTH/oauth2/token",
    "/%6fauth/client/refresh",
    "/%4fAuth/client/refresh",
    "/oauth%2dclients/client/users",
    "/%61pi/%76%32/auth/oauth2/token",
    "/oauth;x=1/client/refresh",
    "/oauth%3bx/client/refresh",
    "/;x/oauth/client/refresh",
    "/v2;x/oauth/client/refresh",
    "/oauth.json",
    "/oauth./client/refresh",
    "/.oauth/client/refresh",
    "/oauth%20/client/refresh",
    "/%20auth/oauth2/token",
    "/oauth%e2%80%8b/client/refresh",
    "/%ef%bd%8fauth/client/refresh",
    "/oauth-cl%c4%b1ents/client/users",
    "/oauth-client%c5%bf/client/users",
    "/oauth_clients/client/users"
  ])("%s is one", (target) => {
    assert.isTrue(isRefused(target))
    const [, name] = target.split("/")
    const refusal = CalPath.refuseTokenEndpoints(target)
    assert(Either.isLeft(refusal))
    assert.deepInclude(refusal.left, { _tag: "InvalidInput", field: "path" })
    if (name !== undefined && name.includes("%")) assert.notInclude(refusal.left.message, name)
  })

  it.each([
    "/",
    "/me",
    "/v2/me",
    "/api/v2/bookings",
    "/bookings/oauth",
    "/bookings/oauth-clients/auth",
    "/bookings?next=/oauth/client/refresh",
    "/conferencing/zoom/oauth/auth-url",
    "/calendars/google/connect",
    "/provider/client/access-token",
    "/atoms/auth/oauth2/clients/client",
    "/authors",
    "/oauth2-something",
    "/api-keys/oauth",
    "/v2x/oauth"
  ])("%s is none", (target) => {
    assert.isFalse(isRefused(target))
  })
})

describe("what CalPath accepts", () => {
  const pieces = [
    "/",
    "//",
    "\\",
    "..",
    ".",
    "...",
    ";",
    "@",
    ":",
    "?",
    "#",
    "&",
    "=",
    "%",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%25",
    "%252e",
    "%00",
    "%40",
    "%c0%ae",
    "%ef%bc%8e",
    "\t",
    "\n",
    " ",
    "\u0000",
    "\uff0e",
    "\u2025",
    "\u2024",
    "\uff0f",
    "[",
    "]",
    "~",
    "a",
    "v1",
    "v2",
    "me",
    "bookings",
    "evil.example",
    "api.cal.com",
    "https:",
    "http://",
    "xn--",
    "%41",
    "%20",
    "'",
    "!"
  ]
  const hostile = FastCheck.array(FastCheck.constantFrom(...pieces), { maxLength: 8 }).map((parts) => parts.join(""))
  const anything = FastCheck.oneof(
    hostile.map((text) => `/${text}`),
    hostile,
    FastCheck.string({ unit: "binary", maxLength: 20 }).map((text) => `/${text}`),
    FastCheck.webUrl({ withFragments: true, withQueryParameters: true }),
    FastCheck.tuple(hostile, hostile).map(([a, b]) => `/${a}?${b}`)
  )
  const bases = [base, "https://api.cal.com/v2/", "http://127.0.0.1:4000/api/v2", "https://api.cal.com"]

  /** Decodes again and again, as a chain of careless servers would. */
  const decodings = (path: string): ReadonlyArray<string> => {
    const decoded = (() => {
      try {
        return decodeURIComponent(path)
      } catch {
        return path
      }
    })()
    return decoded === path ? [path] : [path, ...decodings(decoded)]
  }

  it("never leaves the origin nor the base path, for any parser on the way", () => {
    let accepted = 0
    FastCheck.assert(
      FastCheck.property(anything, FastCheck.constantFrom(...bases), (target, root) => {
        for (const result of [CalPath.resolve(root, target), CalPath.resolveUrl(root, target)]) {
          if (Either.isLeft(result)) continue
          accepted++
          const expected = new URL(root)
          const prefix = expected.pathname.replace(/\/$/, "")
          const url = new URL(result.right)
          assert.strictEqual(url.origin, expected.origin)
          assert.strictEqual(url.username + url.password + url.hash, "")
          for (const path of decodings(url.pathname)) {
            const again = new URL(`${expected.origin}${path.normalize("NFKC").replaceAll("\\", "/")}`)
            assert.strictEqual(again.origin, expected.origin)
            assert.isTrue(again.pathname.startsWith(`${prefix}/`))
            assert.strictEqual(again.search + again.hash, "")
            assert.notMatch(path, /\/\/|(^|\/)\.{1,2}(\/|;|$)/)
          }
        }
      }),
      { numRuns: 20_000 }
    )
    // Otherwise it would say nothing.
    assert.isAbove(accepted, 1000)
  })

  it("is every combination of ordinary segments and encoded values", () => {
    const segment = FastCheck.stringMatching(/^[A-Za-z0-9_-]{1,30}$/)
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(segment, { minLength: 1, maxLength: 6 }),
        FastCheck.array(FastCheck.tuple(segment, FastCheck.string()), { maxLength: 5 }),
        (segments, query) => {
          const target = `/${segments.join("/")}?${new URLSearchParams(query).toString()}`
          const url = Either.getOrThrow(CalPath.resolve(base, target))
          assert.strictEqual(new URL(url).pathname, `/v2/${segments.join("/")}`)
          assert.deepStrictEqual([...new URL(url).searchParams], query)
        }
      ),
      { numRuns: 2000 }
    )
  })
})
