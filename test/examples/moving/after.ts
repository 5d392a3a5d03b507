/** The same app when it has moved. What it had of its own is one object, and its routes say what they said. */
import * as Actions from "cal-tokens/actions"

export interface Settings extends Pick<Actions.Options, "layer" | "config" | "authorize"> {
  /** Who is signed in. */
  readonly signedIn: (request: Request) => string
  readonly revalidatePath: (path: string) => void
}

export const makeAfter = ({ revalidatePath, signedIn, ...options }: Settings) => {
  // ---- lib/cal.ts -------------------------------------------------------------------------------------------------------

  const cal = Actions.make({
    ...options,
    revalidate: (paths) => paths.forEach(revalidatePath),
    revalidatePaths: ["/calendar"]
  })

  // ---- app/api/cal/refresh-token/route.ts -------------------------------------------------------------------------------

  const refreshToken = async (request: Request) => {
    const { forceRefresh } = (await request.json()) as { readonly forceRefresh?: boolean }
    const result = await cal.refreshUserCalTokens(signedIn(request), forceRefresh)
    return Response.json(result, { status: result.success ? 200 : result.httpStatus })
  }

  // ---- app/api/cal/refresh-managed-user-token/route.ts ------------------------------------------------------------------

  const refreshManagedUserToken = async (request: Request) => {
    const userUlid = signedIn(request)
    const info = await cal.getCalTokenInfo(userUlid)
    if (!info.success) return Response.json(info, { status: info.httpStatus })
    if (info.managedUserId === null)
      return Response.json({ success: false, error: "Not a managed user" }, { status: 400 })
    const result = await cal.refreshUserCalTokens(userUlid, true)
    return Response.json(result, { status: result.success ? 200 : result.httpStatus })
  }

  return { ...cal, refreshToken, refreshManagedUserToken }
}
