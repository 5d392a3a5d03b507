/** Rooms of the page as they are written behind `#`. Pure. */

export type Route =
  | { readonly to: "overview" }
  /** `after`: where a page begins, as the page before said. */
  | { readonly to: "reconnect"; readonly after?: string | undefined }
  | { readonly to: "users"; readonly prefix: string; readonly after?: string | undefined }
  | { readonly to: "user"; readonly userUlid: string }

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

export const parse = (hash: string): Route => {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?", 2)
  const [room, userUlid] = path.split("/", 2)
  const given = new URLSearchParams(query)
  const after = given.get("after") ?? undefined
  const page = after === undefined ? {} : { after }
  if (room === "reconnect") return { to: "reconnect", ...page }
  if (room !== "users") return { to: "overview" }
  if (userUlid !== undefined && userUlid !== "") return { to: "user", userUlid: decoded(userUlid) }
  return { to: "users", prefix: given.get("prefix") ?? "", ...page }
}

const withQuery = (path: string, query: Readonly<Record<string, string | undefined>>): string => {
  const given = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, value)
  return given.size === 0 ? path : `${path}?${given.toString()}`
}

export const toHash = (route: Route): string => {
  switch (route.to) {
    case "overview":
      return "#/"
    case "reconnect":
      return withQuery("#/reconnect", { after: route.after })
    case "users":
      return withQuery("#/users", { prefix: route.prefix === "" ? undefined : route.prefix, after: route.after })
    case "user":
      return `#/users/${encodeURIComponent(route.userUlid)}`
  }
}
