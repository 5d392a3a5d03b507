/** What the bundle of this route has in common with those of pages. */
import { cal } from "@/lib/cal"

export const GET = async (request: Request): Promise<Response> => {
  const { searchParams } = new URL(request.url)
  const user = searchParams.get("user") ?? ""
  if (searchParams.has("refresh")) await cal.refreshUserCalTokens(user, true)
  const info = await cal.getCalTokenInfo(user)
  const all = (globalThis as { [key: symbol]: Map<string, { users: number }> | undefined })[Symbol.for("cal-tokens")]
  return Response.json({ info, users: [...(all?.values() ?? [])].map(({ users }) => users) })
}
