// lib/routes.ts: what browsers use
import "server-only"
import * as Next from "cal-tokens/next"
import { currentUser } from "./session"

export const routes = Next.make({ user: currentUser, me: { methods: ["GET"], paths: ["/me", "/bookings"] } })
