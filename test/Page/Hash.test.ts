import { describe, expect, it } from "@effect/vitest"
import * as Hash from "../../src/Page/Hash.js"

const ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

describe("rooms behind #", () => {
  it.each([
    ["", { to: "overview" }],
    ["#", { to: "overview" }],
    ["#/", { to: "overview" }],
    ["#/nowhere", { to: "overview" }],
    ["#/reconnect", { to: "reconnect" }],
    ["#/users", { to: "users", prefix: "" }],
    ["#/users/", { to: "users", prefix: "" }],
    ["#/users?prefix=01AR%26x%3D1", { to: "users", prefix: "01AR&x=1" }],
    [`#/users/${ulid}`, { to: "user", userUlid: ulid }],
    ["#/users/%E0%A4%A", { to: "user", userUlid: "%E0%A4%A" }]
  ] as const)("are found: %s", (hash, route) => expect(Hash.parse(hash)).toEqual(route))

  it.each([
    { to: "overview" },
    { to: "reconnect" },
    { to: "users", prefix: "" },
    { to: "reconnect", after: "2026-11-28T09:02:11.123Z/01AR" },
    { to: "users", prefix: "01AR &?#/ü" },
    { to: "users", prefix: "", after: ulid },
    { to: "users", prefix: "01", after: ulid },
    { to: "user", userUlid: ulid },
    { to: "user", userUlid: "a/b?c#d%" }
  ] as const)("are written so that they are found again: %j", (route) =>
    expect(Hash.parse(Hash.toHash(route))).toEqual(route)
  )
})
