/** Where the paths of this service begin: below a prefix on its server, and elsewhere for whoever comes through a proxy. */
import { type HttpServerRequest } from "@effect/platform"
import { Context, Option } from "effect"

/**
 * Where callers find what is `/` to the service: a path (`/internal/tokens`) or a URL, without a slash at its end. The
 * documentation names it.
 */
export class PublicUrl extends Context.Reference<PublicUrl>()("cal-tokens/Http/PublicUrl", {
  defaultValue: () => ""
}) {}

/** A path of this server: `/internal/tokens`. */
export type Path = `/${string}`

/**
 * A request's URL without the path that it begins with, where `:name` stands for any segment. Of the URL as it was written:
 * nothing else leads below the path.
 */
export const below =
  (path: string) =>
  (url: string): Option.Option<string> => {
    const segments = path.split("/").slice(1)
    let rest = url
    for (const segment of segments) {
      const [, name, after] = /^\/([^/?]+)([^]*)$/.exec(rest) ?? []
      if (after === undefined || !(segment.startsWith(":") || segment === name)) return Option.none()
      rest = after
    }
    return Option.some(rest)
  }

export const at = (request: HttpServerRequest.HttpServerRequest, url: string): HttpServerRequest.HttpServerRequest =>
  url === request.url ? request : request.modify({ url })
