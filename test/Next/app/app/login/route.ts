/** The sign-in of an app for tests: who asks is who they say. */
export const GET = (request: Request): Response => {
  const user = new URL(request.url).searchParams.get("user")
  return new Response("signed in", {
    headers: { "set-cookie": `user=${user}; HttpOnly; Path=/; SameSite=Lax`, "content-type": "text/plain" }
  })
}
