/** `cal-tokens/next` by the variables of the service: Web requests in, Web responses out, and no line of Effect. */
import * as Next from "cal-tokens/next"

const routes = Next.make({ origin: "https://app.example.com", user: (request) => request.headers.get("x-user") })
const said: Array<unknown> = []
for (const headers of [{}, { "x-user": "01ARZ3NDEKTSV4RRFFQ69G5FAV" }]) {
  const response = await routes.me(new Request("https://app.example.com/api/cal/me/bookings", { headers }))
  said.push(response.status, ((await response.json()) as { readonly code: string }).code)
}
await routes.dispose()
console.log(said.join(" "))
