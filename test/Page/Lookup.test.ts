import { describe, expect, it } from "@effect/vitest"
import * as Lookup from "../../src/Page/Lookup.js"
import { uuidFromUlid, UserUlid } from "../../src/Token.js"

const user = (userUlid: string): Lookup.Lookup => ({ is: "user", userUlid })
const nothing: Lookup.Lookup = { is: "nothing" }

describe("what is typed to find a user", () => {
  it("is a whole ULID or UUID, in any case and with blanks around it", () => {
    const ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    const uuid = uuidFromUlid(UserUlid.make(ulid))
    expect(Lookup.read(` ${ulid.toLowerCase()} `)).toStrictEqual(user(ulid))
    expect(Lookup.read(uuid)).toStrictEqual(user(ulid))
    expect(Lookup.read(uuid.replaceAll("-", "").toUpperCase())).toStrictEqual(user(ulid))
    expect(Lookup.read("00000000-0000-0000-0000-000000000000")).toStrictEqual(user("0".repeat(26)))
    expect(Lookup.read("ffffffff-ffff-ffff-ffff-ffffffffffff")).toStrictEqual(user(`7${"Z".repeat(25)}`))
  })

  it("is the beginning of one: a range of keys, and the key before it", () => {
    expect(Lookup.read("01arz")).toStrictEqual({
      is: "range",
      range: {
        first: `01ARZ${"0".repeat(21)}`,
        last: `01ARZ${"Z".repeat(21)}`,
        after: `01ARY${"Z".repeat(21)}`
      }
    })
    expect(Lookup.read("010")).toStrictEqual({
      is: "range",
      range: { first: `010${"0".repeat(23)}`, last: `010${"Z".repeat(23)}`, after: `00Z${"Z".repeat(23)}` }
    })
    // Before the first key of all there is none.
    expect(Lookup.read("0")).toStrictEqual({
      is: "range",
      range: { first: "0".repeat(26), last: `0${"Z".repeat(25)}` }
    })
  })

  it.each(["0188d5e0-", "0188d5e0-1a", "0188d5e0-1a2b-", "0188d5e0-1a2b-7000-8", "0188d5e0-1a2b-7000-8000-0"])(
    "is the beginning of a UUID, %s",
    (typed) => {
      const found = Lookup.read(typed)
      const whole = (digit: string) => {
        const digits = typed.replaceAll("-", "").padEnd(32, digit)
        return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")
      }
      const [first, last] = [Lookup.read(whole("0")), Lookup.read(whole("f"))]
      expect(found).toMatchObject({
        is: "range",
        range: { first: "userUlid" in first && first.userUlid, last: "userUlid" in last && last.userUlid }
      })
    }
  )

  it("is a number at Cal.com where it begins as no ULID of our time does", () => {
    expect(Lookup.read("1000")).toStrictEqual({ is: "calUser", calUserId: 1000 })
    expect(Lookup.read("01")).toMatchObject({ is: "range" })
    expect(Lookup.read("1234567890123456")).toMatchObject({ is: "range" })
  })

  it.each(["ilou", "8Z", "01ARZ3NDEKTSV4RRFFQ69G5FAVX", "0188d5e0-1a2b7", "-", "a b", "ada@example.com"])(
    "is nobody's name: %s",
    (typed) => expect(Lookup.read(typed)).toStrictEqual(nothing)
  )

  it("is nothing yet", () => expect(Lookup.read("  ")).toStrictEqual({ is: "everybody" }))
})
