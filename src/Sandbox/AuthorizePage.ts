/**
 * The page on which a person lets an OAuth2 client in. At Cal.com it belongs to the web application and follows a login;
 * here the person is picked from a list. Facts: the authorize page and `OAuthService` of Cal.com's web application.
 */
import { HttpServerResponse } from "@effect/platform"
import { Effect } from "effect"
import { isLegacy, userScopes, type OAuth2Client } from "./Clients.js"
import { route } from "./Route.js"
import { type User } from "./Store.js"
import { issueCode } from "./Tokens.js"
import * as Users from "./Users.js"
import { isEmail } from "./Validation.js"
import { type Incoming, type World } from "./World.js"

const path = "/auth/oauth2/authorize"

const show = (request: Incoming) =>
  Effect.sync(() => {
    const asked = check(request, request.query)
    return asked._tag === "Asked" ? page(consent(request.world, asked)) : refused(asked)
  })

const decide = (request: Incoming) =>
  Effect.sync(() => {
    const form = new URLSearchParams()
    if (request.body._tag === "Form") {
      for (const [key, value] of Object.entries(request.body.value)) form.set(key, String(value))
    }
    const asked = check(request, form)
    if (asked._tag !== "Asked") return refused(asked)
    if (form.get("decision") !== "allow") return redirect(asked, { error: "access_denied" })
    const user = userOf(request, form)
    if (user === undefined) return page("<p>Go back and pick a user, or enter the email address of a new one.</p>", 400)
    request.note.calUserId = user.id
    return redirect(asked, {
      code: issueCode(request.world, asked.client, user.id, asked.scope, asked.codeChallenge, request.now)
    })
  })

const userOf = ({ now, world }: Incoming, form: URLSearchParams): User | undefined => {
  const email = form.get("email") ?? ""
  const picked = Users.people(world, null).find((user) => String(user.id) === form.get("user"))
  // Whoever types an address means it, whoever is picked in the list; somebody new without one is who the page proposed.
  if (email === "" && form.get("user") !== "new") return picked
  const profile = email === "" ? Users.somebodyNew(world, null) : { email, name: email }
  if (!isEmail.accepts(profile.email)) return undefined
  return (
    world.store.userByEmail(profile.email) ??
    Users.create(world, { ...profile, name: form.get("name") || profile.name }, null, now)
  )
}

interface Asked {
  readonly _tag: "Asked"
  readonly client: OAuth2Client
  readonly redirectUri: string
  readonly state: string | null
  readonly scope: ReadonlyArray<string>
  readonly codeChallenge: string | null
  readonly form: URLSearchParams
}

/** Told to the person only, because the place to return to is not trusted or not known. */
interface Shown {
  readonly _tag: "Shown"
  readonly text: string
}

/** Told to the app, in the query of its redirect URI. */
interface Returned {
  readonly _tag: "Returned"
  readonly redirectUri: string
  readonly state: string | null
  readonly error: string
  readonly description: string
}

const check = (request: Incoming, form: URLSearchParams): Asked | Shown | Returned => {
  const shown = (text: string): Shown => ({ _tag: "Shown", text })
  const client = request.world.clients.oauth2.get(form.get("client_id") ?? "")
  if (client === undefined) return shown("OAuth client with ID not found")
  const redirectUri = form.get("redirect_uri") ?? ""
  if (!client.redirectUris.includes(redirectUri)) {
    return shown("redirect_uri does not match any of the OAuth client's registered redirect URIs")
  }
  const status = request.switches.oauth2ClientStatus
  if (status === "REJECTED") return shown("OAuth client has been rejected")
  if (status === "PENDING") return shown("OAuth client is not approved")
  const registered = client.scopes ?? []
  const asked = (form.get("scope") ?? "").split(/[\s,]+/).filter((scope) => scope !== "")
  if (asked.length === 0 && !isLegacy(registered)) return shown("scope parameter is required for this OAuth client")
  const state = form.get("state")
  const returned = (error: string, description: string): Returned => ({
    _tag: "Returned",
    redirectUri,
    state,
    error,
    description
  })
  if (!asked.every((scope) => isKnown(scope) || registered.includes(scope))) {
    return returned("invalid_scope", "Requested scope is not a recognized scope")
  }
  if (!asked.every((scope) => registered.includes(scope))) {
    return returned("invalid_request", "Requested scope exceeds the client's registered scopes")
  }
  const codeChallenge = form.get("code_challenge") || null
  const method = form.get("code_challenge_method")
  if (client.clientSecret === undefined && codeChallenge === null) {
    return returned("invalid_request", "code_challenge required for public clients")
  }
  if (codeChallenge !== null && method !== "S256") {
    return returned("invalid_request", "code_challenge_method must be S256")
  }
  const scope = asked.length === 0 ? registered : asked
  return { _tag: "Asked", client, redirectUri, state, scope, codeChallenge, form }
}

const isKnown = (scope: string) =>
  userScopes.includes(scope.replace(/^(TEAM|ORG)_/, "")) || scope === "READ_BOOKING" || scope === "READ_PROFILE"

const refused = (outcome: Shown | Returned) =>
  outcome._tag === "Shown"
    ? page(`<p role="alert">${escape(outcome.text)}</p>`, 400)
    : redirect(outcome, { error: outcome.error, error_description: outcome.description })

const redirect = (
  to: { readonly redirectUri: string; readonly state: string | null },
  params: Readonly<Record<string, string>>
) => {
  const url = new URL(to.redirectUri)
  for (const [key, value] of Object.entries(params)) url.searchParams.set(key, value)
  if (to.state !== null) url.searchParams.set("state", to.state)
  return HttpServerResponse.empty({ status: 302, headers: { location: url.toString(), "cache-control": "no-store" } })
}

const consent = (world: World, asked: Asked) => {
  const kept = ["client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"]
  const hidden = kept.flatMap((name) => {
    const value = asked.form.get(name)
    return value === null ? [] : [`<input type="hidden" name="${name}" value="${escape(value)}">`]
  })
  const choices = Users.people(world, null).map(
    (user) =>
      `<label><input type="radio" name="user" value="${user.id}"> ` +
      `${escape(user.name)} &lt;${escape(user.email)}&gt;</label><br>`
  )
  const proposed = Users.somebodyNew(world, null)
  return `<p><strong>${escape(asked.client.name ?? asked.client.clientId)}</strong> would like access to your Cal.com account.</p>
<p>${asked.scope.map((scope) => `<code>${escape(scope)}</code>`).join(" ")}</p>
<form method="post" action="authorize">
${hidden.join("\n")}
<fieldset><legend>Who are you?</legend>
${choices.join("\n")}
<label><input type="radio" name="user" value="new" checked> Somebody new:</label>
<input name="name" placeholder="${proposed.name}" aria-label="Name">
<input name="email" type="email" placeholder="${proposed.email}" aria-label="Email">
</fieldset>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="back" formnovalidate>Back</button></p>
</form>`
}

const page = (body: string, status = 200) =>
  HttpServerResponse.text(
    `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Cal.com sandbox</title></head>
<body style="font: 16px/1.5 system-ui; max-width: 36em; margin: 4em auto; padding: 0 1em"><h1>Cal.com sandbox</h1>
${body}
</body></html>
`,
    {
      status,
      contentType: "text/html; charset=utf-8",
      headers: { "cache-control": "no-store", "content-security-policy": policy }
    }
  )

/** Says nothing of forms: a browser would hold their answer to it too, which leads to the app. */
const policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

const escape = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

export const routes = [route("GET", path, show), route("POST", path, decide)]
