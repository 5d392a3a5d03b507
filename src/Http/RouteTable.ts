/** Which methods a path takes, for the answer to a wrong one. */
import type { HttpRouter } from "@effect/platform"

export interface RouteTable {
  /** The methods of the routes that match a request's URL. */
  readonly methods: (url: string) => ReadonlyArray<string>
}

export const make = (routes: Iterable<HttpRouter.Route<unknown, unknown>>): RouteTable => {
  const table = Array.from(routes, (route) => ({
    method: route.method,
    segments: route.path.split("/")
  }))
  return {
    methods: (url) => {
      const segments = (url.split(/[?#]/, 1)[0] ?? "").split("/")
      return [
        ...new Set(table.filter((route) => matches(route.segments, segments)).map((route) => route.method))
      ].sort()
    }
  }
}

const matches = (pattern: ReadonlyArray<string>, segments: ReadonlyArray<string>): boolean =>
  pattern.length === segments.length &&
  pattern.every((part, index) => (part.startsWith(":") ? segments[index] !== "" : part === segments[index]))
