/**
 * What a person reads who comes back from Cal.com and cannot be sent on. Every word is ours: nothing of the query is
 * shown, because anybody can write anything into a link. No scripts, and no style but the one whose hash is told.
 */
import { createHash } from "node:crypto"
import { HttpServerResponse } from "@effect/platform"
import { Option } from "effect"
import type { Problem } from "../ConnectFlow.js"

interface Text {
  readonly status: number
  readonly title: string
  /** What happened, and what to do. */
  readonly paragraphs: ReadonlyArray<string>
}

const again = "Go back to the app you came from and connect again."
const operator = "This is nothing that you did. Tell the people who run the app you came from"

const texts: Readonly<Record<Problem, Text>> = {
  denied: {
    status: 403,
    title: "Cal.com is not connected",
    paragraphs: ["You did not allow the access, so nothing was connected.", `If that was a mistake: ${lower(again)}`]
  },
  unknownState: {
    status: 400,
    title: "This link no longer works",
    paragraphs: [
      "It was used before, it is older than ten minutes, or it was not made here. Nothing was connected just now.",
      `If you have connected already, you are done. Otherwise: ${lower(again)}`
    ]
  },
  malformed: {
    status: 400,
    title: "Something is missing in this link",
    paragraphs: ["Cal.com's answer did not arrive whole, so nothing was connected.", again]
  },
  notOurs: {
    status: 400,
    title: "You were to come back somewhere else",
    paragraphs: [
      "The app you came from does not say where to send you from here, so nothing was connected.",
      `${operator}: its redirect URL leads to this page, but it asked to be called without a return address.`
    ]
  },
  notAllowed: {
    status: 400,
    title: "The way back is closed",
    paragraphs: [
      "The address that the app wants you back at is not, or no longer, among those that are allowed here. Nothing was connected.",
      `${operator}: its return URL is not below one of CAL_TOKENS_RETURN_URLS.`
    ]
  },
  invalidScope: {
    status: 502,
    title: "Cal.com does not know what was asked for",
    paragraphs: [
      "The app you came from asked for a permission that Cal.com does not have, so nothing was connected.",
      `${operator}: a scope in its settings is wrong (invalid_scope).`
    ]
  },
  invalidRequest: {
    status: 502,
    title: "Cal.com did not take the request",
    paragraphs: [
      "The app you came from asked for more than it is registered for, or not in the way that Cal.com expects.",
      `${operator}: Cal.com answered invalid_request.`
    ]
  },
  unauthorizedClient: {
    status: 502,
    title: "Cal.com does not let the app in",
    paragraphs: [
      "The app you came from is not, or no longer, approved at Cal.com, so nothing was connected.",
      `${operator}: Cal.com answered unauthorized_client.`
    ]
  },
  serverError: {
    status: 502,
    title: "Cal.com had a problem",
    paragraphs: ["It could not finish what you asked for, so nothing was connected.", `Wait a minute. ${again}`]
  },
  otherError: {
    status: 502,
    title: "Cal.com did not connect you",
    paragraphs: ["It gave a reason that is not known here. Nothing was connected.", again]
  }
}

function lower(text: string) {
  return `${text.charAt(0).toLowerCase()}${text.slice(1)}`
}

const style =
  ":root{color-scheme:light dark}body{font:1.125rem/1.5 system-ui,sans-serif;max-width:34rem;margin:0 auto;" +
  "padding:12vh 1.25rem 2rem;overflow-wrap:anywhere}h1{font-size:1.5rem;line-height:1.25}a{color:inherit}"

const policy = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join("; ")

const escape = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

/** Nobody reads paths and queries. */
const hostOf = (url: string) => url.replace(/^https?:\/\//, "").replace(/[/?#].*$/s, "")

const page = ({ paragraphs, status, title }: Text, backTo: Option.Option<string>) => {
  const link = Option.match(backTo, {
    onNone: () => [],
    onSome: (url) => [`<p><a href="${escape(url)}">Back to ${escape(hostOf(url))}</a></p>`]
  })
  const lines = [...paragraphs.map((text) => `<p>${escape(text)}</p>`), ...link]
  return HttpServerResponse.text(
    `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${escape(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<h1>${escape(title)}</h1>
${lines.join("\n")}
</main>
</body>
</html>
`,
    {
      status,
      contentType: "text/html; charset=utf-8",
      headers: {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "cache-control": "no-store"
      }
    }
  )
}

/** The end of a flow. `backTo` is where it was to lead, or else the app, where that is known. */
export const stopped = (problem: Problem, backTo: Option.Option<string>): HttpServerResponse.HttpServerResponse =>
  page(texts[problem], backTo)

const notSignedIn = (what: string, backTo: Option.Option<string>) =>
  page({ status: 401, title: "You are not signed in", paragraphs: [what] }, backTo)

/** Nobody is signed in to the app, or somebody whom it cannot name. Nothing was used up: the same address works afterwards. */
export const signedOut = (backTo: Option.Option<string>): HttpServerResponse.HttpServerResponse =>
  notSignedIn("Sign in to the app you came from, then load this page again.", backTo)

/** Nobody is signed in who could be sent to Cal.com. To send the form again is no use: the app shows it to whoever signs in. */
export const signIn = (backTo: Option.Option<string>): HttpServerResponse.HttpServerResponse =>
  notSignedIn("Sign in to the app you came from, then connect again.", backTo)

/** The app is open under another host than the one that Cal.com would lead back to. */
export const elsewhere = (home: string): HttpServerResponse.HttpServerResponse =>
  page(
    {
      status: 403,
      title: "The app has another address",
      paragraphs: [
        `You opened it under one that Cal.com does not lead back to. It leads to ${hostOf(home)}, where nobody would know you.`,
        "Nothing was connected. Go there, sign in if you have to, and connect again."
      ]
    },
    Option.some(home)
  )

/** Cal.com would lead back to the HTTP service, which knows nothing of the app. */
export const noWayBack: HttpServerResponse.HttpServerResponse = page(
  {
    status: 403,
    title: "Cal.com would not lead back to the app",
    paragraphs: [
      "You would come back from Cal.com somewhere else, so nothing was begun.",
      `${operator}: its redirect URL is the callback of another service, and has to be its own.`
    ]
  },
  Option.none()
)

/** Nothing is lost: the same address works once the service does. */
export const unavailable: HttpServerResponse.HttpServerResponse = page(
  {
    status: 503,
    title: "One moment, please",
    paragraphs: ["The service cannot reach its database just now. Wait a minute, then load this page again."]
  },
  Option.none()
)
