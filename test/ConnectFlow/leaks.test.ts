/** What a person brings back from Cal.com opens their calendar, or lets somebody else in: nobody sees it anywhere. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted } from "effect"
import type * as ConnectFlow from "../../src/ConnectFlow.js"
import { FlowStorage, layerMemory } from "../../src/FlowStorage.js"
import { Fault, Sandbox } from "../../src/Sandbox.js"
import type { TokenError } from "../../src/TokenError.js"
import * as Flow from "../support/FlowWorld.js"
import * as Leaks from "../support/Leaks.js"
import * as LeakWorld from "../support/LeakWorld.js"
import * as Witness from "../support/Witness.js"
import * as World from "../support/World.js"

const { user } = World

/** Flows whose secrets the witness knows, and to whom the storage's requests are shown by nobody. */
const watched = (witness: Witness.Witness, options: ConnectFlow.Options) =>
  Effect.provide(
    Flow.make(options),
    Layer.effect(
      FlowStorage,
      Effect.map(FlowStorage, (storage) =>
        FlowStorage.of({
          ...storage,
          begin: (hash, flow) => {
            if (flow.codeVerifier !== undefined) witness.secrets.add("verifier", Redacted.value(flow.codeVerifier))
            return storage.begin(hash, flow)
          }
        })
      )
    ).pipe(Layer.provide(layerMemory))
  )

/** Both ways back, then everything that can be refused. What is answered goes to the person; what fails, to the witness. */
const wanderings = (
  witness: Witness.Witness,
  flow: (typeof ConnectFlow.ConnectFlow)["Service"],
  act: <A, R>(name: string, effect: Effect.Effect<A, TokenError, R>) => Effect.Effect<unknown, never, R>
) =>
  Effect.gen(function* () {
    const { secrets } = witness
    const back = (returnTo?: string) =>
      Effect.gen(function* () {
        const { url } = yield* flow.begin(user(), { returnTo })
        const query = yield* Flow.consent(url)
        for (const [name, value] of query) secrets.add(name, value)
        return query
      })
    const completion = Effect.gen(function* () {
      const returned = yield* flow.comeBack(yield* back(Flow.returnTo))
      witness.note("return", returned)
      const completion = yield* Flow.completionOf(returned)
      secrets.add("completion", Redacted.value(completion))
      return completion
    })
    const sandbox = yield* Sandbox
    const brought = Flow.broughtBack(yield* back())
    yield* act("exchange", flow.exchange(user(), brought))
    yield* act("exchange again", flow.exchange(user(), brought))
    yield* act("exchange of another user", flow.exchange(user(2), Flow.broughtBack(yield* back())))
    const completed = yield* completion
    yield* act("confirmation", flow.confirm(user(), completed))
    yield* act("confirmation again", flow.confirm(user(), completed))
    yield* act("confirmation of another user", flow.confirm(user(2), yield* completion))
    for (const fault of [Fault.dropAfter, Fault.garbage, Fault.html, Fault.truncated, Fault.refuseConnection]) {
      yield* sandbox.inject(fault({ kind: "oauth2Code" }))
      yield* act("exchange that fails", flow.exchange(user(), Flow.broughtBack(yield* back())))
    }
    const state = Redacted.make("x".repeat(43))
    yield* act("exchange of nonsense", flow.exchange(user(), { state, code: yield* completion }))
    const wrong = { state: Flow.broughtBack(yield* back()).state, code: yield* completion }
    yield* act("exchange of a wrong code", flow.exchange(user(), wrong))
    const query = yield* back(Flow.returnTo)
    query.append("code", query.get("code") ?? "")
    witness.note("return", yield* flow.comeBack(query))
    witness.note("return", yield* flow.comeBack(query))
  })

describe("no code, state, verifier or completion is seen", () => {
  it.effect("of a client with a secret, whatever Cal.com repeats in its answers", () =>
    Effect.map(
      LeakWorld.watch(
        Effect.scoped(
          Effect.gen(function* () {
            const { act, interfere, witness } = yield* LeakWorld.LeakWorld
            const flow = yield* watched(witness, {})
            yield* wanderings(witness, flow, act)
            for (const [status, body] of [
              [400, (sent: string) => ({ error: "invalid_grant", error_description: `no code in ${sent}` })],
              [401, (sent: string) => ({ error: "invalid_client", error_description: sent })],
              [500, (sent: string) => ({ error: sent })],
              [200, (sent: string) => ({ access_token: sent, expires_in: 0 })]
            ] as const) {
              const { url } = yield* flow.begin(user())
              const query = yield* Flow.consent(url)
              for (const [name, value] of query) witness.secrets.add(name, value)
              yield* interfere((request) =>
                request.url.endsWith("/token") ? Response.json(body(request.body), { status }) : undefined
              )
              yield* act(`exchange answered ${status}`, flow.exchange(user(), Flow.broughtBack(query)))
              yield* interfere(() => undefined)
            }
            for (const name of ["code", "state", "completion"]) assert.include(witness.secrets.names(), name)
          })
        )
      ),
      (seen) => {
        for (const channel of ["log.json", "span.name", "span.failure"])
          assert.isAbove(seen.get(channel) ?? 0, 0, channel)
      }
    )
  )

  it.effect("of a public client", () =>
    Effect.gen(function* () {
      const witness = Witness.make()
      yield* World.run(
        Effect.gen(function* () {
          const flow = yield* watched(witness, {})
          yield* wanderings(witness, flow, (name, effect) =>
            Effect.tap(World.passTime(Effect.exit(effect), 60_000), (exit) => witness.noteExit(name, exit))
          )
        }),
        Flow.isPublic
      ).pipe(Effect.provide(witness.layer))
      for (const name of ["code", "state", "verifier", "completion"]) assert.include(witness.secrets.names(), name)
      yield* witness.assertClean
    })
  )

  it.effect("nor when somebody looks at what is handed around", () =>
    Effect.gen(function* () {
      const flow = yield* Flow.begun()
      const { url } = yield* flow.begin(user(), { returnTo: Flow.returnTo })
      const query = yield* Flow.consent(url)
      const returned = yield* flow.comeBack(query)
      const completion = yield* Flow.completionOf(returned)
      Leaks.assertClean(Leaks.renderings([returned, Flow.broughtBack(query)]), [
        ...query.values(),
        Redacted.value(completion)
      ])
    }).pipe(Effect.scoped, Effect.provide(World.layer()), Effect.provide(Logger.remove(Logger.defaultLogger)))
  )
})
