import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as Clients from "../../src/CalClient/Clients.js"

const [a, b, c] = [{ clientId: "a" }, { clientId: "b" }, { clientId: "c" }]

const chosen = (clients: Clients.Clients<{ readonly clientId: string }>, named?: string) =>
  Effect.runSync(
    Effect.match(clients.choose(named), {
      onFailure: ({ message }) => message,
      onSuccess: Option.match({ onNone: () => undefined, onSome: ({ clientId }) => ({ clientId }) })
    })
  )

describe("the client that is meant", () => {
  it("is the one that is named, else the usual one, else the only one", () => {
    for (const [clients, named, expected] of [
      [Clients.make(a), undefined, a],
      [Clients.make(a, [b, c]), undefined, a],
      [Clients.make(a, [b, c]), "c", c],
      [Clients.make(undefined, [b]), undefined, b],
      [Clients.make(undefined, [b]), "b", b],
      [Clients.make(undefined, [b, c]), "b", b],
      [Clients.make(undefined), undefined, undefined],
      [Clients.make(undefined), "b", undefined]
    ] as const) {
      assert.deepStrictEqual(chosen(clients, named), expected)
    }
    assert.deepStrictEqual(chosen(Clients.make(a, [b]), null as unknown as undefined), a)
  })

  it("has to be named where there are several, by one of their names", () => {
    assert.strictEqual(chosen(Clients.make(undefined, [b, c])), "clientId is required: one of b, c.")
    assert.strictEqual(chosen(Clients.make(a, [b]), "SECRET"), "clientId must be one of a, b.")
  })
})
