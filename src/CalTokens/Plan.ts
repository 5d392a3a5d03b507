/**
 * What an attempt does next: the refresh protocol between a claim and its end, as a function without an effect in it.
 * `Attempt` carries the steps out and hands back what came of them. The table at the head of `TokenStorage` says what
 * each of them writes; this is its sibling:
 *
 * | After                                    | still untried tokens | managed user, all refused | OAuth2 user, all refused               |
 * | ---------------------------------------- | -------------------- | ------------------------- | -------------------------------------- |
 * | the claim, or a token that is `Rejected` | `Spend` the next     | `Reissue`                 | `AwaitLatePair` if another process may hold a pair, else `End` Terminal |
 * | the first refusal of a pair that is seconds old | `SpendAgain`, once |                          |                                        |
 * | the wait for a late pair                 |                      |                           | `End` Terminal                         |
 * | a token that turned up at the end        | `Spend` it           | `Reissue`                 | as above                               |
 * | a reissue with an unknown outcome        |                      | `Reissue` once more, then `End` Unknown |                          |
 * | a reissue of a user who is gone          |                      | `End` Terminal (`calUserGone`) |                                   |
 * | an answer that nobody understands        | `End` Unknown, with the answer                                                    |||
 * | any other failure of a call              | `End`: NotSpent (Unknown while a probe is open), Unknown, ClientWide              |||
 *
 * A granted pair needs no plan: it is committed, and that is the end.
 */
import { Data, Option } from "effect"
import { CallFailure, type Unread } from "../CalClient.js"
import { hash, type TokenPair } from "../Token.js"
import type { ReauthorizationCause, CallError } from "../TokenError.js"
import type { StoredRow } from "../TokenStorage.js"

/** What an attempt knows. */
export interface State {
  readonly purpose: "refresh" | "reissue"
  /** The row as it was last seen. */
  readonly row: StoredRow
  /** Hash of the refresh token whose outcome an earlier attempt left unknown. */
  readonly probe: Option.Option<string>
  /** Hashes of the refresh tokens that Cal.com refused in this attempt. */
  readonly refused: ReadonlySet<string>
  /** The token that is spent, while one is. */
  readonly spending: string | undefined
  /** The row's own pair was issued so short a time ago that a replica of Cal.com's may not know it. */
  readonly isYoung: boolean
  /** How often Cal.com was asked to reissue. */
  readonly reissues: number
}

/** A refresh token that may be spent. */
export interface Candidate {
  readonly pair: TokenPair
  readonly hash: string
}

export type Step = Data.TaggedEnum<{
  /** Send this token. The claim has journalled it already if it is the first one; else that comes first. */
  Spend: { readonly candidate: Candidate; readonly isJournalled: boolean }
  /** Send the same token once more, a little later: Cal.com reads from replicas, and one may not know it yet. */
  SpendAgain: { readonly candidate: Candidate }
  /** Have Cal.com issue a new pair with the client's secret. */
  Reissue: {}
  /** A pair that a refused token was spent for may be on its way into the storage. */
  AwaitLatePair: {}
  End: { readonly ending: Ending }
}>
export const Step = Data.taggedEnum<Step>()

/** An end without a pair. */
export type Ending = Data.TaggedEnum<{
  /** Nothing was spent. */
  NotSpent: { readonly error: CallError }
  /** A token may have been spent; it is probed later. `unread`: the answer in which its successor may be. */
  Unknown: { readonly error: CallError; readonly unread?: Unread | undefined }
  /** Cal.com refuses the client: the user has nothing to do with it. */
  ClientWide: { readonly error: CallError; readonly isOwn: boolean }
  /** Every token is refused for good. */
  Terminal: { readonly cause: ReauthorizationCause }
}>
export const Ending = Data.taggedEnum<Ending>()

/** What came of the last step. */
export type Outcome = Data.TaggedEnum<{
  Claimed: {}
  Failed: { readonly failure: CallFailure }
  Waited: {}
  /** Nobody was marked: the row has a token that was not tried. */
  Untried: { readonly row: StoredRow }
}>
export const Outcome = Data.taggedEnum<Outcome>()

export type Next = readonly [step: Step, state: State]

/** The state of an attempt whose claim was granted. */
export const begin = (claim: Pick<State, "purpose" | "row" | "probe" | "isYoung">): State => ({
  ...claim,
  refused: new Set(),
  spending: undefined,
  reissues: 0
})

export const next = (state: State, outcome: Outcome): Next =>
  Outcome.$match(outcome, {
    Claimed: () => choose(state),
    Waited: () => end(state, Ending.Terminal({ cause: causeOf(state) })),
    Untried: ({ row }) => choose({ ...state, row, reissues: 0 }),
    Failed: ({ failure }) => afterFailure(state, failure)
  })

/** The token whose outcome is unknown first, then the row's, then the fallbacks; refused ones are out. */
export const candidates = ({ probe, refused, row }: State): ReadonlyArray<Candidate> => {
  const all = [row.pair, ...row.fallbacks].map((pair) => ({ pair, hash: hash(pair.refreshToken) }))
  const isProbe = (candidate: Candidate) => Option.contains(probe, candidate.hash)
  return [...all.filter(isProbe), ...all.filter((candidate) => !isProbe(candidate))].filter(
    (candidate) => !refused.has(candidate.hash)
  )
}

/** Is the outcome of an earlier attempt still open? Not once the probed token was refused. */
export const openProbe = ({ probe, refused }: State): Option.Option<string> =>
  Option.filter(probe, (probed) => !refused.has(probed))

const choose = (state: State): Next => {
  const [candidate] = state.purpose === "reissue" ? [] : candidates(state)
  if (candidate !== undefined) {
    const isFirst = state.spending === undefined && state.refused.size === 0
    const isJournalled = isFirst && Option.getOrElse(state.probe, () => candidate.hash) === candidate.hash
    return [Step.Spend({ candidate, isJournalled }), { ...state, spending: candidate.hash }]
  }
  if (state.row.connection._tag === "ManagedUser") return reissue(state)
  // A displaced token tells no more of who had spent it, but whoever did has the pair that lives.
  const wasDisplaced = state.refused.size > 1
  return Option.isSome(state.probe) || wasDisplaced
    ? [Step.AwaitLatePair(), state]
    : end(state, Ending.Terminal({ cause: causeOf(state) }))
}

const reissue = (state: State): Next => [
  Step.Reissue(),
  { ...state, spending: undefined, reissues: state.reissues + 1 }
]

const end = (state: State, ending: Ending): Next => [Step.End({ ending }), state]

/** An answer that was lost may be why the tokens are refused. */
const causeOf = ({ probe }: State): ReauthorizationCause => (Option.isSome(probe) ? "rotationLost" : "revoked")

const afterFailure = (state: State, failure: CallFailure): Next => {
  const { spending } = state
  return CallFailure.$match(failure, {
    // A probe that was not even processed leaves the outcome as unknown as it was.
    NotSpent: ({ error }) =>
      end(state, Option.isSome(openProbe(state)) ? Ending.Unknown({ error }) : Ending.NotSpent({ error })),
    ClientWide: ({ error, isOwn }) => end(state, Ending.ClientWide({ error, isOwn })),
    // One that answers another call than was made says nothing about the token.
    Rejected: ({ error }): Next => {
      if (spending === undefined) return end(state, Ending.Unknown({ error }))
      const own = candidates(state).find((candidate) => candidate.hash === spending)
      return state.isYoung && own?.pair === state.row.pair
        ? [Step.SpendAgain({ candidate: own }), { ...state, isYoung: false }]
        : choose({ ...state, refused: new Set(state.refused).add(spending) })
    },
    UserGone: ({ error }) =>
      end(state, spending === undefined ? Ending.Terminal({ cause: "calUserGone" }) : Ending.Unknown({ error })),
    // Asked again, Cal.com would end the pair that may be in the answer.
    Unreadable: ({ answer, error }) => end(state, Ending.Unknown({ error, unread: answer })),
    Unknown: ({ error }) =>
      spending === undefined && state.reissues === 1 ? reissue(state) : end(state, Ending.Unknown({ error }))
  })
}
