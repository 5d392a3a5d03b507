/**
 * The sandbox with its state in a file, so that a second start continues the first. Whatever a request changed is in the
 * file before its answer leaves: a crash in between would otherwise bring back refresh tokens that are spent already, and
 * the demo's users would be locked out. Holds simulated tokens only, still for its owner's eyes only.
 */
import * as Fs from "node:fs/promises"
import { join } from "node:path"
import { Effect, Layer, Option, Schema } from "effect"
import { StartError } from "../Environment.js"
import * as Sandbox from "../Sandbox.js"

const State = Schema.parseJson(Sandbox.Snapshot)

/** `directory` exists and belongs to this process alone. */
export const layer = (
  directory: string,
  options: Omit<Sandbox.Options, "initial">
): Layer.Layer<Sandbox.Sandbox, StartError> =>
  Layer.scoped(
    Sandbox.Sandbox,
    Effect.gen(function* () {
      const path = join(directory, "cal.com.json")
      const saved = yield* read(path)
      const sandbox = yield* Sandbox.make({
        ...options,
        ...(Option.isSome(saved) ? { initial: yield* decode(path, saved.value) } : {})
      })
      const save = yield* makeSave(path, sandbox, saved)
      yield* Effect.addFinalizer(() => save)
      const saving = <A>(effect: Effect.Effect<A>) => Effect.tap(effect, save)
      return {
        ...sandbox,
        app: Effect.tap(sandbox.app, save),
        grantManaged: (person) => saving(sandbox.grantManaged(person)),
        grantOAuth2: (person) => saving(sandbox.grantOAuth2(person)),
        authorizationCode: (person) => saving(sandbox.authorizationCode(person)),
        expireAccessTokens: (calUserId) => saving(sandbox.expireAccessTokens(calUserId)),
        revokeRefreshTokens: (calUserId) => saving(sandbox.revokeRefreshTokens(calUserId)),
        deleteUser: (calUserId) => saving(sandbox.deleteUser(calUserId))
      }
    })
  )

const read = (path: string): Effect.Effect<Option.Option<string>, StartError> =>
  Effect.tryPromise({
    try: () => Fs.readFile(path, "utf8"),
    catch: (error) => (error instanceof Error && "code" in error ? String(error.code) : "unreadable")
  }).pipe(
    Effect.asSome,
    Effect.catchAll((code) => (code === "ENOENT" ? Effect.succeedNone : unreadable(path, code)))
  )

const decode = (path: string, text: string) =>
  Effect.catchAll(Schema.decode(State)(text), () => unreadable(path, "not a sandbox of this version"))

const unreadable = (path: string, reason: string) =>
  new StartError({
    message: `The sandbox's state in ${path} cannot be read (${reason}): remove its directory to start afresh`
  })

/** Writes the state when it differs from what was written last: aside, then over the old one in one step. */
const makeSave = (path: string, sandbox: Sandbox.Sandbox["Type"], saved: Option.Option<string>) =>
  Effect.gen(function* () {
    const mutex = yield* Effect.makeSemaphore(1)
    let last = Option.getOrUndefined(saved)
    return Effect.gen(function* () {
      const text = Schema.encodeSync(State)(yield* sandbox.snapshot)
      if (text === last) return
      yield* Effect.tryPromise(async () => {
        await Fs.writeFile(`${path}.new`, text, { mode: 0o600 })
        await Fs.rename(`${path}.new`, path)
      })
      last = text
    }).pipe(
      mutex.withPermits(1),
      Effect.uninterruptible,
      Effect.catchAll(() => Effect.logError(`The sandbox's state could not be written to ${path}`))
    )
  })
