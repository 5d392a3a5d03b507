// app/api/cal/sign-out/route.ts
import { routes } from "@/lib/routes"

export const POST = routes.signOut
