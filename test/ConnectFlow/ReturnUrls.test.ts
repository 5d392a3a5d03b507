import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, FastCheck } from "effect"
import { check, complete } from "../../src/ConnectFlow/ReturnUrls.js"

const allowed = ["https://app.example/settings", "https://open.example/", "http://localhost:3000/a/?x=1"]

const of = (url: string) => Effect.runSync(Effect.either(check(allowed, url)))

describe("a return URL is allowed", () => {
  for (const [url, used = url] of [
    ["https://app.example/settings"],
    ["https://app.example/settings/"],
    ["https://app.example/settings/calendar"],
    ["https://app.example/settings?tab=calendar&next=%2Fhome%2F..%2F"],
    ["https://app.example:443/settings", "https://app.example/settings"],
    ["https://APP.example/settings", "https://app.example/settings"],
    ["https://app.example/settings?completions=1&my_completion=2&completion-x=3&x=completion"],
    ["https://app.example/settings/%C3%A4?q=%23&at=a@b.example"],
    ["https://open.example", "https://open.example/"],
    ["https://open.example/any/where"],
    ["http://localhost:3000/a/b"]
  ] as ReadonlyArray<readonly [string, string?]>) {
    it(url, () => assert.deepStrictEqual(of(url), Either.right(used)))
  }
})

describe("a return URL is refused", () => {
  for (const url of [
    "https://app.example/",
    "https://app.example/settings-old",
    "https://app.example/Settings",
    "https://app.example/settings/../admin",
    "https://app.example/settings/%2e%2e/admin",
    "https://app.example/settings/..%2fadmin",
    "https://app.example/settings/..%5cadmin",
    "https://app.example/settings\\..\\admin",
    "https://app.example/settings%00",
    "https://app.example/settings%0d%0ax",
    "https://app.example/settings\r\nlocation: https://evil.example",
    "https://app.example/other/../settings/a",
    "https://app.example/settings/..;/admin",
    "https://app.example/settings/..;x=1/admin",
    "https://app.example/settings/%2e%2e%3b/admin",
    "https://app.example/settings/%252e%252e/admin",
    "https://app.example/settings/%252e%252e%252fadmin",
    "https://app.example/settings/%c0%ae%c0%ae/admin",
    "https://app.example/settings/%e0%80%ae%e0%80%ae/admin",
    "https://app.example/settings/%ef%bc%8e%ef%bc%8e/admin",
    "https://app.example/settings/%u002e%u002e/admin",
    "https://app.example/settings//admin",
    "https://app.example/settings/%",
    "https://app.example/settings%7f",
    "https://app.example/settings/%c2%85",
    "https://app.example/settings?x=\\",
    "https://app.example/settings?x=%zz",
    "https://app.example/settings?x=#",
    "https://app.example/settings#",
    "https://app.example/settings#fragment",
    "https://app.example\\settings",
    "https://app.example#@open.example/",
    "https://app.example?@open.example/",
    "https://app.example/settings?completion=mine",
    "https://app.example/settings?%63ompletion=mine",
    "https://app.example/settings?%2563ompletion=mine",
    "https://app.example/settings?a=1&completion",
    "https://app.example/settings?a=1;completion=mine",
    "https://app.example/settings?completion[]=mine",
    "https://app.example/settings?completion[",
    "https://app.example/settings?completion%5B0%5D=mine",
    "https://app.example/settings?completion.x=mine",
    "https://app.example/settings?completion%00x=mine",
    "https://app.example/settings?completion+=mine",
    "https://app.example/settings?+completion=mine",
    "https://app.example/settings?%20Completion=mine",
    "https://app.example/settings?%EF%BD%83ompletion=mine",
    "http://app.example/settings",
    "https://app.example:8443/settings",
    "https://user@app.example/settings",
    "https://user:password@app.example/settings",
    "https://app.example@evil.example/settings",
    "https://app.example.evil.example/settings",
    "https://evil.example/https://app.example/settings",
    "https:app.example/settings",
    "https:///app.example/settings",
    "//app.example/settings",
    "/settings",
    " https://app.example/settings",
    "https://app.example/set\ttings",
    "https://äpp.example/settings",
    "javascript:alert(1)",
    "data:text/html,hello",
    "http://localhost:3000/a",
    "http://localhost:3000/ab",
    "",
    `https://open.example/${"a".repeat(2048)}`
  ]) {
    it(JSON.stringify(url.slice(0, 60)), () => {
      const result = of(url)
      assert(Either.isLeft(result))
      assert.strictEqual(result.left.field, "returnTo")
      // What was sent is not repeated.
      if (url.length > 10) assert.notInclude(result.left.message, url)
    })
  }

  it("when the list is empty", () => {
    assert.isTrue(Either.isLeft(Effect.runSync(Effect.either(check([], "https://app.example/settings")))))
  })
})

describe("a completion", () => {
  it("is added to whatever query there is, which stays letter by letter", () => {
    for (const [url, completed] of [
      ["https://open.example/", "https://open.example/?completion=c-_"],
      ["https://open.example/?", "https://open.example/?&completion=c-_"],
      ["https://open.example/?a=b+c%20d&sig=%2B", "https://open.example/?a=b+c%20d&sig=%2B&completion=c-_"]
    ] as const) {
      assert.strictEqual(complete(url, "c-_"), completed)
      assert.strictEqual(new URL(completed).searchParams.get("completion"), "c-_")
    }
  })

  it("never leads elsewhere than the list allows", () => {
    const parts = FastCheck.constantFrom(
      ..."https: // http: / app.example open.example evil.example @ : ? # \\ .. . %2e %2f settings old a & = 443 ;".split(
        " "
      )
    )
    FastCheck.assert(
      FastCheck.property(FastCheck.array(parts, { minLength: 3, maxLength: 12 }), (pieces) => {
        const result = of(pieces.join(""))
        if (Either.isLeft(result)) return
        const { origin, pathname } = new URL(complete(result.right, "c"))
        assert.isTrue(
          origin === "https://open.example" ||
            (origin === "https://app.example" && /^\/settings(\/|$)/.test(pathname)) ||
            (origin === "http://localhost:3000" && pathname.startsWith("/a/"))
        )
      }),
      { numRuns: 5000 }
    )
  })
})
