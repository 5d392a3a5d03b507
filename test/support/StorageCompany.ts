/** A storage each of whose claims and commits is one of two in its turn of the event loop, so that both travel together. */
import { Context, Effect, Layer } from "effect"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Fixture from "./StorageFixture.js"

/** Of a user whom nobody connects: they change nothing. */
const { calUserId, userUlid } = Fixture.newUser("7ZZZ")

const beside = <A, E>(call: Effect.Effect<A, E>, other: Effect.Effect<unknown, E>): Effect.Effect<A, E> =>
  Effect.map(Effect.all([call, other], { concurrency: "unbounded" }), ([answer]) => answer)

const inCompany = (storage: Fixture.Storage): Fixture.Storage => ({
  ...storage,
  claim: (request) => beside(storage.claim(request), storage.claim(Fixture.claimOf(userUlid))),
  commit: (request) =>
    beside(storage.commit(request), storage.commit(Fixture.commitOf(userUlid, Fixture.managed(calUserId))))
})

export const layerInCompany = <A, E, R>(
  layer: Layer.Layer<A | TokenStorage, E, R>
): Layer.Layer<A | TokenStorage, E, R> =>
  Layer.map(layer, (context) => Context.add(context, TokenStorage, inCompany(Context.get(context, TokenStorage))))
