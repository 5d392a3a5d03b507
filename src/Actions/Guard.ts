/**
 * What surrounds an action on behalf of a user: may the caller do it, and what is to be told afterwards. Both are
 * functions of the application and run in the caller's asynchronous context, where its cookies and request store are.
 */
import { Context, Effect, Either, Layer, Option, Stream } from "effect"
import { CalTokens, type ValidToken } from "../CalTokens.js"
import * as RefreshAhead from "../RefreshAhead.js"
import { ulidFromUuid, type UserUlid } from "../Token.js"
import type { TokenError } from "../TokenError.js"
import * as TokenInput from "../TokenInput.js"
import type { Open } from "./Backing.js"
import * as Failure from "./Failure.js"
import * as Rendering from "./Rendering.js"
import * as Runner from "./Runner.js"

export interface Hooks {
  readonly authorize?: ((userUlid: string) => boolean | Promise<boolean>) | undefined
  readonly revalidate?: ((paths: ReadonlyArray<string>, userUlid: string) => void | Promise<void>) | undefined
  readonly revalidatePaths?: ReadonlyArray<string> | ((userUlid: string) => ReadonlyArray<string>) | undefined
  readonly refreshAhead?: boolean | undefined
}

/** One action that was let through. */
export interface Act<R> {
  readonly userUlid: UserUlid
  readonly run: <A>(effect: Effect.Effect<A, TokenError | Failure.Lacking, R>) => Promise<A | Failure.Failure>
  /** Says that the user's tokens were changed, by this action or by one it joined. */
  readonly changed: () => void
}

/** What concerns many users, of some of whom it was let through. */
export interface Many<R> extends Pick<Act<R>, "run"> {
  readonly mayAct: (userUlid: UserUlid) => boolean
  /** Says that the user's tokens were changed. */
  readonly changed: (userUlid: UserUlid) => void
}

export interface Guard<R> {
  /** Whether nobody has to be asked before an action, or told after it. */
  readonly isBare: boolean
  /** A user's token, if nobody has to be asked or told and it is there and fresh. */
  readonly peek: (userUlid: string) => ValidToken | undefined
  /** Carries out an action for a user whose id is well-formed and for whom the caller may act. */
  readonly act: <A>(name: string, userUlid: unknown, body: (act: Act<R>) => Promise<A>) => Promise<A | Failure.Failure>
  /** The same for many users, each of whom is asked about once. What is no user is nobody for whom the caller may act. */
  readonly actForMany: <A>(
    name: string,
    users: ReadonlyArray<unknown>,
    body: (many: Many<R>) => Promise<A>
  ) => Promise<A | Failure.Failure>
  /** Runs an effect that concerns no user. */
  readonly anonymous: <A>(
    name: string,
    effect: Effect.Effect<A, TokenError | Failure.Lacking, R>
  ) => Promise<A | Failure.Failure>
  /** Of what there is to tell of several users: that of those for whom the caller may act. */
  readonly among: <A extends { readonly userUlid: string }>(
    name: string,
    all: ReadonlyArray<A>
  ) => Promise<ReadonlyArray<A> | Failure.Failure>
  readonly dispose: () => Promise<void>
}

/** How long a promise of `revalidate` is waited for. */
const revalidateWait = "5 seconds"

/** The worker, until it is interrupted. `Effect.never` would keep a script from ending. */
const ahead = Effect.scoped(
  Effect.zipRight(
    Layer.build(RefreshAhead.layer),
    Effect.async<never>(() => {})
  )
)

/** The page itself is rendered with what is new. */
const whileRendering =
  "Next takes no revalidatePath while it renders a page, and it was a page that found the tokens expired. " +
  "Pass `revalidate: revalidating({ after, revalidatePath })` of cal-tokens/next, which waits until the page is sent, " +
  "or use Revalidation. This is said once"

interface Watch {
  readonly userUlid: UserUlid
  changed: boolean
}

export const make = <R, E>(open: Open<R | CalTokens, E>, hooks: Hooks): Guard<R | CalTokens> => {
  const watches = new Set<Watch>()

  // Some changes come out of the depth of an operation that does not tell: a request whose token was refused.
  const watchChanges = Effect.flatMap(CalTokens, (tokens) =>
    Stream.runForEach(tokens.changes, (change) =>
      Effect.sync(() => {
        for (const watch of watches) if (watch.userUlid === change.userUlid) watch.changed = true
      })
    )
  )
  const runner = Runner.make<R | CalTokens, E>(
    open,
    Effect.zipRight(
      hooks.revalidate === undefined ? Effect.void : watchChanges,
      hooks.refreshAhead === true ? ahead : Effect.void,
      { concurrent: true }
    )
  )

  const mayAct = async (operation: Runner.Operation, userUlid: string): Promise<boolean | Failure.Failure> => {
    try {
      return hooks.authorize === undefined || (await hooks.authorize(userUlid)) === true
    } catch (error) {
      return runner.refuse(operation, Failure.unauthorized, `authorize failed: ${Failure.describe(error)}`)
    }
  }

  /** Those for whom the caller may act; the first failure of asking is the answer for all. */
  const allowedOf = async <User extends string>(
    name: string,
    users: Iterable<User>
  ): Promise<ReadonlySet<User> | Failure.Failure> => {
    const allowed = new Set<User>()
    for (const userUlid of users) {
      const isAllowed = await mayAct({ name, userUlid }, userUlid)
      if (typeof isAllowed === "object") return isAllowed
      if (isAllowed) allowed.add(userUlid)
    }
    return allowed
  }

  // Each page that finds a token expired would say it, and none more than the first.
  let hasSaidWhy = false

  const revalidate = async (operation: Runner.Operation, userUlid: UserUlid): Promise<void> => {
    const { revalidate, revalidatePaths = ["/"] } = hooks
    if (revalidate === undefined) return
    const call = async () =>
      revalidate(typeof revalidatePaths === "function" ? revalidatePaths(userUlid) : revalidatePaths, userUlid)
    // Called here, and not by an effect, for the sake of the caller's context; only the waiting is an effect.
    const done = call()
    const outcome = await Effect.tryPromise({
      try: () => done,
      catch: (error) => (Rendering.refuses(error) ? whileRendering : Failure.describe(error))
    }).pipe(
      Effect.timeoutFail({ duration: revalidateWait, onTimeout: () => "its promise did not settle" }),
      Effect.either,
      Effect.runPromise
    )
    if (Either.isRight(outcome)) return
    if (outcome.left === whileRendering) {
      if (hasSaidWhy) return
      hasSaidWhy = true
    }
    await runner.note(operation, `revalidate failed: ${outcome.left}`)
  }

  return {
    isBare: hooks.authorize === undefined && hooks.revalidate === undefined,
    // What is no user of this spelling is nobody's key there.
    peek: (userUlid) => {
      const services = hooks.authorize === undefined ? runner.services() : undefined
      if (services === undefined) return services
      const { peek } = Context.get(services, CalTokens)
      const token = peek(userUlid as UserUlid)
      // Most are ULIDs in upper case, and nothing is to be made of them.
      if (token !== undefined || typeof userUlid !== "string") return token
      return Option.getOrUndefined(Option.map(ulidFromUuid(userUlid), (known) => peek(known)))
    },
    act: async (name, value, body) => {
      const user = Effect.runSync(Effect.either(TokenInput.userUlid(value)))
      if (Either.isLeft(user)) return runner.refuse({ name }, Failure.fromError(user.left))
      const userUlid = user.right
      const operation = { name, userUlid }
      const isAllowed = await mayAct(operation, userUlid)
      if (isAllowed !== true) return isAllowed === false ? runner.refuse(operation, Failure.forbidden) : isAllowed
      const watch: Watch = { userUlid, changed: false }
      watches.add(watch)
      try {
        return await body({
          userUlid,
          run: (effect) => runner.run(operation, effect),
          changed: () => void (watch.changed = true)
        })
      } finally {
        watches.delete(watch)
        if (watch.changed) await revalidate(operation, userUlid)
      }
    },
    actForMany: async (name, values, body) => {
      const users = new Set(
        values.flatMap((value) => Option.toArray(Effect.runSync(Effect.option(TokenInput.userUlid(value)))))
      )
      const allowed = await allowedOf(name, users)
      if (Failure.isFailure(allowed)) return allowed
      const changed = new Set<UserUlid>()
      try {
        return await body({
          run: (effect) => runner.run({ name }, effect),
          mayAct: (userUlid) => allowed.has(userUlid),
          changed: (userUlid) => void changed.add(userUlid)
        })
      } finally {
        await Promise.all([...changed].map((userUlid) => revalidate({ name, userUlid }, userUlid)))
      }
    },
    anonymous: (name, effect) => runner.run({ name }, effect),
    among: async (name, all) => {
      const allowed = await allowedOf(name, new Set(all.map(({ userUlid }) => userUlid)))
      return Failure.isFailure(allowed) ? allowed : all.filter(({ userUlid }) => allowed.has(userUlid))
    },
    dispose: runner.dispose
  }
}
