import { serve } from "@hono/node-server"
import * as Actions from "cal-tokens/actions"
import * as Next from "cal-tokens/next"
import { Hono } from "hono"
import { contextStorage, getContext } from "hono/context-storage"
import { getCookie } from "hono/cookie"

interface Env {
  Variables: { user: string | undefined } // the ULID of whoever is signed in
}
const currentUser = () => getContext<Env>().get("user")

const routes = Next.make({ user: currentUser, me: { methods: ["GET"], paths: ["/me", "/bookings"] } })
const cal = Actions.make({ authorize: (userUlid) => userUlid === currentUser() })

const app = new Hono<Env>()
app.use(contextStorage())
app.use(async (c, next) => {
  c.set("user", getCookie(c, "user")) // your own sign-in, whatever it is; who has this cookie is who it says
  await next()
})
app.post("/api/cal/connect", (c) => routes.connect(c.req.raw))
app.get("/api/cal/callback", (c) => routes.callback(c.req.raw)) // CAL_OAUTH_REDIRECT_URL
app.get("/api/cal/me/*", (c) => routes.me(c.req.raw))
app.post("/api/cal/sign-out", (c) => routes.signOut(c.req.raw))
app.get("/", (c) => c.html('<form method="post" action="/api/cal/connect?returnTo=/bookings"><button>Connect</button>'))
app.get("/bookings", async (c) => {
  const user = currentUser()
  if (user === undefined) return c.text("Signed out", 401)
  const bookings = await cal.makeCalApiRequest("/bookings", "GET", undefined, user)
  if (Actions.isFailure(bookings)) return Response.json(bookings, { status: bookings.httpStatus })
  return Response.json(bookings)
})

serve({ fetch: app.fetch, port: Number(process.env["PORT"] ?? 3000) }, ({ port }) => {
  console.log(`http://localhost:${port}`)
})
