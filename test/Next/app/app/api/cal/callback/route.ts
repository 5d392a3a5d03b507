// app/api/cal/callback/route.ts: the client's redirect URL, CAL_OAUTH_REDIRECT_URL
import { routes } from "@/lib/routes"

export const GET = routes.callback
