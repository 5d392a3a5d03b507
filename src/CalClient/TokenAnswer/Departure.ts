/** How an answer that could be read departs from Cal.com's contract: a warning that the contract is changing. */
import { Effect } from "effect"
import * as Metrics from "../../Metrics.js"
import type { Candidate, Found } from "./Candidates.js"
import type { Context } from "./Context.js"
import * as Expiry from "./Expiry.js"
import { contracts } from "./Names.js"

const words = {
  encoded: "it is compressed, although that was not asked for",
  cutOff: "its end is missing",
  wrapped: "its tokens are at another place",
  renamed: "its tokens have other names",
  expiry: "the end of its access token is missing, of another type or not credible",
  noAccessToken: "it has a refresh token and no access token",
  noRefreshToken: "it has no refresh token that is new"
}

/**
 * A way in which an answer was read although it was not as the contract has it.
 *
 * @since 0.1.0
 * @category models
 */
export type Departure = keyof typeof words

/** What an answer that was read shows. */
export interface Seen {
  readonly isEncoded: boolean
  readonly isCutOff: boolean
  readonly found: Found
}

export const of = ({ found, isCutOff, isEncoded }: Seen, { issuedAt, kind }: Context): ReadonlyArray<Departure> => {
  const contract = contracts[kind]
  const places = (test: (place: Candidate["places"][number], name: string) => boolean) =>
    [
      { candidate: found.access, name: contract.access },
      { candidate: found.refresh, name: contract.refresh }
    ].every(({ candidate, name }) => candidate === undefined || candidate.places.some((place) => test(place, name)))
  const shown: Readonly<Record<Departure, boolean>> = {
    encoded: isEncoded,
    cutOff: isCutOff,
    wrapped: !places(({ depth }) => depth === contract.depth),
    renamed: !places((place, name) => place.name === name),
    expiry: found.access !== undefined && !Expiry.isAsContracted(found.members, kind, issuedAt),
    noAccessToken: found.access === undefined,
    noRefreshToken: found.refresh === undefined
  }
  return kinds.filter((departure) => shown[departure])
}

/** All of them. */
export const kinds = Object.keys(words) as ReadonlyArray<Departure>

/** Counts departures, and logs each kind once per client: the next thousand users meet the same. */
export type Report = (clientId: string, departures: ReadonlyArray<Departure>) => Effect.Effect<void>

export const make: Effect.Effect<Report> = Effect.sync(() => {
  const told = new Set<string>()
  return (clientId, departures) =>
    Effect.forEach(
      departures,
      (departure) => {
        const key = `${departure} ${clientId}`
        const isNew = !told.has(key)
        told.add(key)
        return Effect.zipRight(
          Metrics.departure(departure),
          isNew
            ? Effect.logWarning(`Cal.com's answer departs from its contract: ${words[departure]}. It was read.`).pipe(
                Effect.annotateLogs({ clientId, departure })
              )
            : Effect.void
        )
      },
      { discard: true }
    )
})
