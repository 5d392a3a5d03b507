/** Where in the page one is: the part of the address behind `#`. */
import * as Store from "./Store.js"

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

const hash: Store.Store<string> = Store.make(location.hash, () => {
  const read = () => hash.set(location.hash)
  read()
  window.addEventListener("hashchange", read)
  return () => window.removeEventListener("hashchange", read)
})

export const useRoute = (): Route => parse(Store.useStore(hash))

export const go = (route: Route): void => {
  location.hash = toHash(route)
}

/** Changes the address without a step in the browser's history: for what is typed. */
export const replace = (route: Route): void => {
  history.replaceState(null, "", toHash(route))
  hash.set(location.hash)
}
