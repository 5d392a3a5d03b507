/** Rooms of the page as they are written behind `#`. Pure. */

export type Route =
  | { readonly to: "overview" }
  | { readonly to: "reconnect" }
  | { readonly to: "users"; readonly prefix: string }
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
  if (room === "reconnect") return { to: "reconnect" }
  if (room !== "users") return { to: "overview" }
  if (userUlid !== undefined && userUlid !== "") return { to: "user", userUlid: decoded(userUlid) }
  return { to: "users", prefix: new URLSearchParams(query).get("prefix") ?? "" }
}

export const toHash = (route: Route): string => {
  switch (route.to) {
    case "overview":
      return "#/"
    case "reconnect":
      return "#/reconnect"
    case "users":
      return route.prefix === "" ? "#/users" : `#/users?${new URLSearchParams({ prefix: route.prefix }).toString()}`
    case "user":
      return `#/users/${encodeURIComponent(route.userUlid)}`
  }
}
