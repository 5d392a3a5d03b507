/** The house: which room of `src` may see which. CONTRIBUTING.md draws it; `npm run check` holds it. */

/** A room is a file of `src` and the folder of the same name. */
const room = (...names) => `^src/(${names.join("|")})(/|\\.ts$)`

/** From the ground up. What stands below does not know what stands above it. */
const floors = [
  ["ErrorFacts", "Version"],
  ["History", "Token", "TokenError", "TokenConfig", "TokenInput", "KeyRing", "ApiKeys", "Metrics"],
  ["Api", "CalHttp", "Fibers"],
  ["Revalidation"],
  ["CalClient", "TokenStorage", "FlowStorage", "Embedded", "Sandbox"],
  ["CalTokens", "Explain"],
  ["CalApi", "ConnectFlow", "ManagedUsers", "Overview", "RefreshAhead", "Sessions", "Webhook"],
  ["Environment", "Testing"],
  ["Node"],
  ["Actions", "Http", "Cli"],
  ["Next"],
  ["main", "index", "Page"]
]

const upwards = floors.slice(1).map((_, index) => {
  const above = floors.slice(index + 1).flat()
  return {
    name: `not-above-${floors[index][0]}`,
    comment: `Arrows go downwards: ${floors[index].join(", ")} know nothing of what is built on them.`,
    severity: "error",
    from: { path: room(...floors[index]), pathNot: "^src/Actions/FromEnvironment\\.ts$" },
    to: { path: room(...above) }
  }
})

/** Rooms of one floor that must not see each other. */
const apart = (one, ...others) => ({
  name: `${one}-apart`,
  comment: `${one} and its neighbours meet in what is built on both of them.`,
  severity: "error",
  from: { path: room(one) },
  to: { path: room(...others) }
})

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    { name: "no-circle", severity: "error", from: {}, to: { circular: true } },
    ...upwards,
    apart("CalClient", "TokenStorage", "FlowStorage", "Embedded", "Sandbox"),
    apart("TokenStorage", "CalClient", "Embedded", "Sandbox", "CalHttp", "Revalidation", "ApiKeys", "Api"),
    apart("CalHttp", "Fibers", "Api"),
    apart("Fibers", "CalHttp", "Api"),
    apart("CalApi", "ConnectFlow", "ManagedUsers", "RefreshAhead", "Sessions", "Webhook", "TokenStorage"),
    apart("Sessions", "CalApi", "ConnectFlow", "ManagedUsers", "Webhook", "TokenStorage", "Api"),
    {
      name: "faces-are-imported-by-nobody-below",
      comment:
        "Types live with the part that makes them; CalTokens.ts hands them on and is imported by none of its parts. " +
        "Public.ts is a face of a face: what a subpath of the package shows.",
      severity: "error",
      from: { path: "^src/([A-Z]\\w*)/", pathNot: "/Public\\.ts$" },
      to: { path: "^src/$1\\.ts$", pathNot: "^src/(TokenStorage|Environment|Sandbox)\\.ts$" }
    },
    {
      name: "a-port-knows-no-driver",
      severity: "error",
      from: {
        path: "^src/(TokenStorage|FlowStorage)\\.ts$|^src/TokenStorage/[A-Z]\\w*\\.ts$",
        pathNot: "^src/TokenStorage/Postgres\\.ts$"
      },
      to: { path: "^src/TokenStorage/Postgres" }
    },
    {
      name: "drivers-are-for-wiring",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(Environment/|TokenStorage/Postgres)" },
      to: { path: "^src/TokenStorage/Postgres" }
    },
    {
      name: "the-api-is-a-value",
      comment: "Browsers load it: no implementation, nothing of Node.",
      severity: "error",
      from: { path: "^src/Api(/|\\.ts$)" },
      to: {
        pathNot:
          "^src/(Api|ErrorFacts|History|TokenError)(/|\\.ts$)|^src/ApiKeys/Scope\\.ts$|node_modules/(effect|@effect/platform)/"
      }
    },
    {
      name: "the-simulator-is-nobody's-part",
      comment:
        "It simulates Cal.com, so it shares nothing with what is tried out against it but the place where it is plugged in.",
      severity: "error",
      from: { path: room("Sandbox") },
      to: { path: "^src/", pathNot: [room("Sandbox", "Token", "TokenError"), "^src/CalHttp/HttpClients\\.ts$"] }
    },
    {
      name: "subpaths-are-for-others",
      comment: "What the package shows is gathered for its users; the code itself imports the parts.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/index\\.ts$" },
      to: { path: "^src/(Http|TokenStorage/Postgres)/Public\\.ts$" }
    },
    {
      name: "the-page-is-a-browser's",
      comment: "It knows the API by its types alone, and nobody but its bundle knows it.",
      severity: "error",
      from: { path: room("Page") },
      to: { path: "^src/", pathNot: room("Page"), dependencyTypesNot: ["type-only"] }
    },
    {
      name: "nobody-imports-the-page",
      comment: "Its bundle is `#page`.",
      severity: "error",
      from: { path: "^src/", pathNot: room("Page") },
      to: { path: room("Page") }
    },
    {
      name: "no-orphan",
      comment: "A file that nothing imports is dead.",
      severity: "error",
      from: { orphan: true, path: "^src/", pathNot: "\\.d\\.ts$" },
      to: {}
    }
  ],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "\\.json$" }
  }
}
