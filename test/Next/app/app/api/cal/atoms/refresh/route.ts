// app/api/cal/atoms/refresh/route.ts: only if you use Cal Atoms
import { routes } from "@/lib/routes"

export const GET = routes.atoms
