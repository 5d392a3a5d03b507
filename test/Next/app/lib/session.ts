// lib/session.ts: your own sign-in, whatever it is; who has this cookie is who it says
import { cookies } from "next/headers"

export const currentUser = async (): Promise<string | undefined> => (await cookies()).get("user")?.value
