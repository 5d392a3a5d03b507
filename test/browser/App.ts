/**
 * A website with sessions of its own, whose server has people connect their Cal.com account: the four steps that the
 * README tells for a callback of the service's.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http"
import type { BrowserWorld } from "./BrowserWorld.js"

export interface App {
  readonly listener: RequestListener
  /** The `Referer` of every request for a page. */
  readonly referrers: Array<string>
  /** Where a browser begins a session as this user. */
  readonly login: (userUlid: string) => string
  /** Where the browser is sent to from step 1. */
  readonly begun: Array<string>
  /** What came back with a completion, in clear. */
  readonly completions: Array<string>
}

export const settings = "/settings/calendar"

const html = (text: string) => `<!doctype html>
<html lang="en">
<title>Settings</title>
<link rel="icon" href="data:,">
<p id="state">${text}</p>
<form method="post" action="/connect"><button>Connect Cal.com</button></form>
</html>
`

const page = (response: ServerResponse, text: string) =>
  response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(html(text))

const goTo = (response: ServerResponse, location: string, headers: Record<string, string> = {}) =>
  response.writeHead(303, { ...headers, location }).end()

const sessionOf = ({ headers }: IncomingMessage) => /(?:^|; )session=(\w+)/.exec(headers.cookie ?? "")?.[1]

export const make = ({ api, site }: BrowserWorld): App => {
  const referrers: Array<string> = []
  const begun: Array<string> = []
  const completions: Array<string> = []

  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", site)
    referrers.push(request.headers.referer ?? "")
    if (pathname === "/login") {
      const cookie = `session=${searchParams.get("user")}; Path=/; HttpOnly; SameSite=Lax`
      return goTo(response, settings, { "set-cookie": cookie })
    }
    const userUlid = sessionOf(request)
    if (userUlid === undefined) return page(response, "Nobody is logged in")
    if (pathname === "/connect") {
      const { json } = await api("/oauth/authorize-url", { userUlid, returnTo: site + settings })
      begun.push(String(json["url"]))
      return goTo(response, String(json["url"]))
    }
    const completion = searchParams.get("completion")
    if (completion !== null) {
      completions.push(completion)
      const { json } = await api("/oauth/confirm", { userUlid, completion })
      // Out of the address bar, and nothing happens twice when the page is loaded again.
      return goTo(response, json["success"] === true ? settings : `${settings}?problem=${String(json["code"])}`)
    }
    const problem = searchParams.get("problem")
    if (problem !== null) return page(response, `Not connected: ${problem}`)
    const { status } = await api(`/connections/${userUlid}`)
    page(response, status === 200 ? "Connected" : "Not connected")
  }

  return {
    listener: (request, response) =>
      void answer(request, response).catch(() => response.writeHead(500).end("the website failed")),
    referrers,
    login: (userUlid) => `${site}/login?user=${userUlid}`,
    begun,
    completions
  }
}
