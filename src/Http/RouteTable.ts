/**
 * Which paths there are, as they are written, and which methods they take. Whoever forbids a path at their own edge
 * forbids one spelling, so there is no other: a router that decodes, folds case or cuts off would open the rest.
 */
export interface RouteTable {
  /** Whether a request's URL may be the exact spelling of a path, so that the {@link router} can find it or not. */
  readonly isExact: (url: string) => boolean
  /** Whether a request's URL is the exact spelling of a route's path, or below one that is open. */
  readonly has: (url: string) => boolean
  /** The methods of the routes that match a request's URL. */
  readonly methods: (url: string) => ReadonlyArray<string>
  /** The template of the route that a request is for. */
  readonly template: (method: string, url: string) => string | undefined
}

/** What the platform's router tolerates by default. It decodes escapes and cuts off at a semicolon whatever is said here. */
export const router = { caseSensitive: true, ignoreDuplicateSlashes: false, ignoreTrailingSlash: false } as const

/** Without anything that means something else to another reader: escapes, parameters, empty segments, dot segments. */
const plain = /^(?:\/(?!\.{1,2}(?:\/|$))[\w\-.~!$&'()*+,=:@]+)+$/

/** What a table is made of. */
export interface Routes {
  readonly routes: Iterable<{ readonly method: string; readonly path: string }>
  readonly mounts: Iterable<readonly [prefix: string, ...rest: ReadonlyArray<unknown>]>
}

export const make = ({ mounts, routes }: Routes): RouteTable => {
  const paths = Array.from(routes, ({ path }) => path)
  const table = Array.from(routes, (route) => ({
    method: route.method,
    path: route.path,
    segments: route.path.split("/")
  }))
  const exact = new Map(table.map((route) => [`${route.method} ${route.path}`, route.path]))
  const literals = new Set(paths.filter((path) => !/[:*]/.test(path)))
  // Below these anything may stand: their handlers judge it. One that has other routes below it is none of them, because
  // an escape could lead from the one to the others.
  const mounted = Array.from(mounts, ([prefix]) => prefix)
  const wild = [
    ...paths.filter((path) => path.endsWith("*")).map((path) => path.slice(0, -1)),
    ...mounted.map((prefix) => `${prefix}/`)
  ]
  const open = wild.filter((prefix) => !paths.some((path) => path !== `${prefix}*` && path.startsWith(prefix)))
  const isBelowOpen = (path: string) => open.some((prefix) => path.startsWith(prefix))
  return {
    has: (url) => {
      const path = pathOf(url)
      const segments = path.split("/")
      return (
        isBelowOpen(path) ||
        literals.has(path) ||
        mounted.includes(path) ||
        (plain.test(path) &&
          (wild.some((prefix) => path.startsWith(prefix)) || table.some((route) => matches(route.segments, segments))))
      )
    },
    isExact: (url) => {
      const path = pathOf(url)
      return plain.test(path) || literals.has(path) || isBelowOpen(path)
    },
    template: (method, url) => {
      const path = pathOf(url)
      const known = exact.get(`${method} ${path}`)
      if (known !== undefined) return known
      const segments = path.split("/")
      const isFor = (route: (typeof table)[number]) => {
        if (route.method !== method && route.method !== "*") return false
        if (!route.path.endsWith("*")) return matches(route.segments, segments)
        const fixed = route.segments.slice(0, -1)
        return segments.length > fixed.length && matches(fixed, segments.slice(0, fixed.length))
      }
      return table.find(isFor)?.path
    },
    methods: (url) => {
      const segments = pathOf(url).split("/")
      return [
        ...new Set(table.filter((route) => matches(route.segments, segments)).map((route) => route.method))
      ].sort()
    }
  }
}

export const none = make({ routes: [], mounts: [] })

const pathOf = (url: string): string => url.split("?", 1)[0] ?? ""

const matches = (pattern: ReadonlyArray<string>, segments: ReadonlyArray<string>): boolean =>
  pattern.length === segments.length &&
  pattern.every((part, index) => (part.startsWith(":") ? segments[index] !== "" : part === segments[index]))
