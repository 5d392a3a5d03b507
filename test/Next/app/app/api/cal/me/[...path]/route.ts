// app/api/cal/me/[...path]/route.ts
import { routes } from "@/lib/routes"

export const GET = routes.me
