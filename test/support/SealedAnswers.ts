/** Answers that nobody can read yet, and a program that can. */
import { assert } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { StorageTap } from "./StorageTap.js"

export const sealed = Effect.flatMap(StorageTap, ({ raw }) => raw.sealed({ limit: 100 }))

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

/** What a newer program would read in an answer of the sandbox's other shape. */
const asRead = (bytes: Uint8Array) => {
  const renamed = text(bytes)
    .replace('"bearer":', '"access_token":')
    .replace('"renewal":', '"refresh_token":')
    .replace('"session":{', '"data":{')
  assert.notStrictEqual(renamed, text(bytes))
  return new TextEncoder().encode(renamed)
}

/** The same answers in a shape that this program knows, which is the same as a program that knows their shape. */
export const learnToRead = Effect.gen(function* () {
  const { raw } = yield* StorageTap
  for (const answer of yield* sealed) {
    yield* raw.seal({ ...answer, answer: Redacted.make(asRead(Redacted.value(answer.answer))) })
  }
})
