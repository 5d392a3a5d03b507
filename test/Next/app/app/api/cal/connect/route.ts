// app/api/cal/connect/route.ts
import { routes } from "@/lib/routes"

export const POST = routes.connect
