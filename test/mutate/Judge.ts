/** Hands an answer to the client under test and compares what it makes of it with what is right. */
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { Cause, Effect, Either, Exit, Layer, Logger, Redacted, TestClock, TestContext } from "effect"
import * as CalClient from "../../src/CalClient.js"
import { TokenHttp } from "../../src/CalHttp/HttpClients.js"
import { hash } from "../../src/Token.js"
import type { Answer } from "./Answer.js"
import type { Case } from "./Case.js"
import * as Tokens from "./Tokens.js"

/** What a client made of an answer. */
export type Made =
  | {
      readonly _tag: "Granted"
      readonly access: string
      readonly refresh: string
      readonly expiresAt: number
      /** Whether the answer is handed on beside the tokens. */
      readonly isOpen: boolean
    }
  | { readonly _tag: "Refused"; readonly how: string; readonly bytes: Uint8Array | undefined }

/** Reads one answer. */
export type Reader = (each: Case) => Effect.Effect<Made>

const redacted = (text: string) => Redacted.make(text)

const stream = ({ chunks, isCut }: Answer) => {
  let next = 0
  return new ReadableStream<Uint8Array>({
    pull: (controller) => {
      const chunk = chunks[next++]
      if (chunk !== undefined) return controller.enqueue(chunk)
      if (isCut) controller.error(new TypeError("terminated"))
      else controller.close()
    }
  })
}

const clientOptions: CalClient.Options = {
  apiUrl: "https://api.cal.com/v2",
  managed: { clientId: Tokens.clientIds.managed, clientSecret: redacted("platform-secret") },
  oauth2: { clientId: Tokens.clientIds.oauth2, clientSecret: redacted("oauth2-secret") }
}

/** The client as it is, over an `HttpClient` that gives it the answer in the pieces it comes in. */
export const client: Effect.Effect<Reader> = Effect.gen(function* () {
  let answer: Answer | undefined
  const http = HttpClient.make((request) =>
    Effect.sync(() => {
      if (answer === undefined) throw new Error("nothing to answer")
      const { headers, status } = answer
      return HttpClientResponse.fromWeb(request, new Response(stream(answer), { status, headers }))
    })
  )
  const client = yield* Effect.provideService(CalClient.make(clientOptions), TokenHttp, http)

  return (each) =>
    Effect.gen(function* () {
      answer = each.answer
      const { fallback, isNameless, kind, sent, stored, userId } = each.before
      const kept: CalClient.Kept = {
        stored: {
          accessToken: redacted(stored.access),
          refreshToken: redacted(stored.refresh),
          accessTokenExpiresAt: Tokens.now - 1000
        },
        known: [hash(redacted(fallback))]
      }
      const managed = { _tag: "ManagedUser", clientId: Tokens.clientIds.managed, calUserId: userId } as const
      const oauth2 = {
        _tag: "OAuth2",
        clientId: Tokens.clientIds.oauth2,
        ...(isNameless ? {} : { calUserId: userId })
      } as const
      const call =
        sent === undefined
          ? client.reissue(managed, kept)
          : client.refresh(kind === "managed" ? managed : oauth2, redacted(sent), kept)
      const result = yield* Effect.either(call)
      return Either.match(result, {
        onRight: ({ pair, unread }): Made => ({
          _tag: "Granted",
          access: Redacted.value(pair.accessToken),
          refresh: Redacted.value(pair.refreshToken),
          expiresAt: pair.accessTokenExpiresAt,
          isOpen: unread !== undefined
        }),
        onLeft: (failure): Made => ({
          _tag: "Refused",
          how: failure._tag,
          bytes: failure._tag === "Unreadable" ? Redacted.value(failure.answer.bytes) : undefined
        })
      })
    })
})

const maxKept = 64 * 1024

/** What is wrong with what was made of an answer; undefined if nothing is. */
export const wrongWith = (each: Case, made: Made): string | undefined => {
  const { before, expected } = each
  const came = Buffer.concat(each.answer.chunks)
  const tokens = { new: each.refresh, kept: before.sent ?? before.stored.refresh }
  const accesses = { new: each.access, stored: before.stored.access }
  switch (expected._tag) {
    case "Take": {
      if (made._tag === "Refused") return `a new token is lost (${made.how})`
      if (made.refresh !== tokens[expected.refresh]) return `the refresh token is not the ${expected.refresh} one`
      if (made.access !== accesses[expected.access]) return `the access token is not the ${expected.access} one`
      const end = expected.expiresAt ?? Tokens.now - 1000
      if (made.expiresAt !== end) return `the access token ends ${made.expiresAt - end} ms off`
      return made.isOpen === expected.isOpen ? undefined : `the answer is ${made.isOpen ? "" : "not "}kept`
    }
    case "Keep":
      if (made._tag === "Granted") return "something is taken"
      if (made.bytes === undefined) return `the answer is not kept (${made.how})`
      return Buffer.compare(Buffer.from(made.bytes), came.subarray(0, maxKept)) === 0
        ? undefined
        : "the answer is not kept as it came"
    case "Fail":
      return made._tag === "Granted" ? "something is taken" : undefined
    case "TakeOrFail":
      if (made._tag === "Refused") return undefined
      return [each.refresh, tokens.kept].includes(made.refresh) &&
        [each.access, before.stored.access].includes(made.access)
        ? undefined
        : "another token is taken"
  }
}

/** Runs to its end without a clock that moves, and without a log. */
export const run = async <A>(effect: Effect.Effect<A>): Promise<A> => {
  const quiet = Layer.merge(TestContext.TestContext, Logger.remove(Logger.defaultLogger))
  const exit = await Effect.runPromiseExit(
    Effect.zipRight(TestClock.setTime(Tokens.now), effect).pipe(Effect.provide(quiet))
  )
  if (Exit.isFailure(exit)) throw new Error(Cause.pretty(exit.cause))
  return exit.value
}
