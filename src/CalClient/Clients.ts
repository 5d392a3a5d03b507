/** The configured clients of one kind, and which one of them is meant. */
import { Effect, Option } from "effect"
import { InvalidInput } from "../TokenError.js"

export interface Clients<Client> {
  /** By their ids. */
  readonly all: ReadonlyMap<string, Client>
  /**
   * The client that is meant: the one that is named; without a name the usual one, or the only one. `None` where there is
   * none at all, which every caller has words of its own for. Fails where a name is missing, or names none of them.
   */
  readonly choose: (clientId: string | undefined) => Effect.Effect<Option.Option<Client>, InvalidInput>
}

export const make = <Client extends { readonly clientId: string }>(
  usual: Client | undefined,
  others: ReadonlyArray<Client> = []
): Clients<Client> => {
  const list = usual === undefined ? others : [usual, ...others]
  const all = new Map(list.map((client) => [client.clientId, client]))
  const implied = usual ?? (list.length === 1 ? list[0] : undefined)
  const ids = [...all.keys()].join(", ")
  const refuse = (expected: string) => Effect.fail(new InvalidInput({ field: "clientId", expected }))
  return {
    all,
    // Plain JavaScript says null for what there is not.
    choose: (named) => {
      if (all.size === 0) return Effect.succeedNone
      const clientId = named ?? undefined
      const client = clientId === undefined ? implied : all.get(clientId)
      if (client !== undefined) return Effect.succeedSome(client)
      return refuse(`${clientId === undefined ? "is required:" : "must be"} one of ${ids}`)
    }
  }
}

/** The same clients as something else, made once of each. */
export const map = <A extends { readonly clientId: string }, B>(
  { all, choose }: Clients<A>,
  f: (client: A) => B
): Clients<B> => {
  const mapped = new Map([...all].map(([id, client]) => [id, f(client)]))
  return {
    all: mapped,
    choose: (clientId) =>
      Effect.map(
        choose(clientId),
        Option.flatMap((client) => Option.fromNullable(mapped.get(client.clientId)))
      )
  }
}
