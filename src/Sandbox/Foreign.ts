/** Whether a page of another origin makes its reader's browser ask: it would reach what only this machine does. */
import { type HttpServerRequest } from "@effect/platform"

/** Browsers say so, the older ones by the page's origin; who is no browser says nothing of the kind. */
export const isForeign = ({ headers }: HttpServerRequest.HttpServerRequest): boolean => {
  const { host, origin, "sec-fetch-site": site } = headers
  if (site !== undefined) return site !== "same-origin" && site !== "none"
  return origin !== undefined && !(URL.canParse(origin) && new URL(origin).host === host)
}
