/** What makes an answer one of which nothing may be taken, whatever it looks like. */
import { type Draft } from "./Draft.js"
import { object, type Value } from "./Text.js"
import { type Mutation, spell } from "./Inclusions.js"
import * as Tokens from "./Tokens.js"

/** Both tokens, or one of them, with these claims. */
const claiming = (draft: Draft, changes: object, roles: ReadonlyArray<Tokens.Role>, issuedAt = Tokens.now) => {
  const { kind, userId } = draft.before
  for (const role of roles) {
    draft[role] = Tokens.token(draft.prng, kind, role, { userId, issuedAt }, changes)
  }
}

const someRoles = (draft: Draft) =>
  draft.prng.pick<ReadonlyArray<Tokens.Role>>([["access"], ["refresh"], ["access", "refresh"]])

const anotherUser = (draft: Draft) => {
  const id = draft.before.userId + draft.prng.int(1, 1000)
  return draft.prng.chance(0.2) ? String(id) : id
}

/** The tokens as an object that a mutation can put anywhere. */
const moved = (draft: Draft): Value => {
  const { access, names, refresh } = draft
  draft.access = undefined
  draft.refresh = undefined
  draft.copies = []
  return object([names.access, access ?? "no-access-token"], [names.refresh, refresh ?? "no-refresh-token"])
}

const second = (draft: Draft, role: Tokens.Role): Value =>
  draft.prng.chance(0.5)
    ? Tokens.token(draft.prng, draft.before.kind, role, { userId: draft.before.userId, issuedAt: Tokens.now })
    : Tokens.letters(draft.prng, 40)

export const exclusions: Readonly<Record<string, Mutation>> = {
  "another user's": (draft) => {
    const id = anotherUser(draft)
    claiming(draft, draft.before.kind === "managed" ? { ownerId: id, userId: id } : { userId: id }, someRoles(draft))
  },
  "two users' in one": (draft) =>
    claiming(draft, { ownerId: draft.before.userId, userId: anotherUser(draft) }, someRoles(draft)),
  "another client's": (draft) =>
    claiming(draft, { clientId: `another-${Tokens.letters(draft.prng, 8)}` }, someRoles(draft)),
  "of long ago": (draft) =>
    claiming(draft, {}, ["access", "refresh"], draft.before.issuedAt - draft.prng.int(86_500, 900_000) * 1000),
  "the pair that was there": (draft) => {
    draft.access = draft.before.stored.access
    draft.refresh = draft.before.sent ?? draft.before.stored.refresh
  },
  "each under the other's name": (draft) => {
    claiming(draft, {}, ["access", "refresh"])
    draft.copies = []
    draft.names = { access: draft.names.refresh, refresh: draft.names.access }
  },
  "ID tokens": (draft) => {
    claiming(
      draft,
      draft.prng.pick<object>([{ type: "id_token", token_type: "ID Token" }, { nonce: "n" }, { at_hash: "h" }]),
      ["access", "refresh"]
    )
  },
  "one token for both": (draft) => {
    draft.access = Tokens.letters(draft.prng, 40)
    draft.refresh = draft.access
  },
  "two refresh tokens": (draft) => {
    draft.beside.push({ name: spell(draft, ["refresh", "token"]), value: second(draft, "refresh") })
  },
  "two access tokens": (draft) => {
    draft.beside.push({ name: spell(draft, ["access", "token"]), value: second(draft, "access") })
  },
  "beside an error": (draft) => {
    const value = draft.prng.pick<Value>(["invalid_grant", "", false, 0, object(["message", "no"]), []])
    ;(draft.prng.chance(0.5) ? draft.beside : draft.around).push({
      name: draft.prng.pick(["error", "Error", "ERROR"]),
      value
    })
  },
  "within an echo": (draft) => {
    const name = draft.prng.pick(["errors", "details", "target", "request"])
    draft.beside.push({ name, value: moved(draft) })
  },
  "within an error": (draft) => {
    draft.around.push({ name: "error", value: object(["data", moved(draft)]) })
  },
  "under names that say nothing": (draft) => {
    draft.names = draft.prng.pick([
      { access: "token", refresh: "renewal" },
      { access: "access", refresh: "refresh" },
      { access: "a", refresh: "b" },
      { access: "newAccessToken", refresh: "newRefreshToken" },
      { access: "access_token_2", refresh: "refresh_token_2" }
    ])
    draft.copies = []
  },
  "wrapped in something else": (draft) => {
    const name = draft.prng.pick(["result", "tokens", "payload", "data2", "response"])
    draft.wrap = (answer) => object(["status", "success"], [name, answer])
  },
  "wrapped too often": (draft) => {
    draft.depth = 3
  },
  "in a list": (draft) => {
    draft.wrap = (answer) => (draft.prng.chance(0.5) ? [answer] : object(["data", [answer]]))
  },
  "within a text": (draft) => {
    draft.edit = (text) => JSON.stringify(draft.prng.chance(0.5) ? text : { data: text })
  },
  "in a page": (draft) => {
    draft.edit = (text) => `<!doctype html><title>Back soon</title><script>window.answer = ${text}</script>`
  },
  "before something else": (draft) => {
    const rest = draft.prng.pick(["<!-- -->", "{}", "]", "x", ",", "null"])
    draft.edit = (text) => `${text}${draft.prng.pick(["", "\n"])}${rest}`
  },
  "after something else": (draft) => {
    draft.edit = (text) => `${draft.prng.pick([")]}',\n", "callback(", "data: ", "x", "{}", "// note\n"])}${text}`
  },
  "in a form": (draft) => {
    const { access = "", names, refresh = "" } = draft
    draft.edit = () => new URLSearchParams({ [names.access]: access, [names.refresh]: refresh }).toString()
  },
  "a page without tokens": (draft) => {
    draft.edit = () =>
      draft.prng.pick(["<html></html>", "OK", "", " ", "Service unavailable", "null", "[]", "{}", "true "])
  },
  "with a status that grants nothing": (draft) => {
    draft.status = draft.prng.pick([300, 302, 400, 401, 403, 404, 409, 429, 498, 500, 502, 503])
  }
}
