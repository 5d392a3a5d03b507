/** Handlers where other frameworks look for them. Only its types are looked at: none of these is installed here. */
import * as Next from "cal-tokens/next"

const routes = Next.make({ user: () => undefined })

/** Remix's. */
interface LoaderFunctionArgs {
  readonly request: Request
}

/** SvelteKit's. */
type RequestHandler = (event: { readonly request: Request }) => Response | Promise<Response>

type Handler = (request: Request) => Response | Promise<Response>

declare const Bun: {
  readonly serve: (options: { readonly routes: Record<string, Record<string, Handler>> }) => unknown
}

export const loader = ({ request }: LoaderFunctionArgs) => routes.callback(request) // Remix
export const GET: RequestHandler = ({ request }) => routes.me(request) // SvelteKit
Bun.serve({ routes: { "/api/cal/sign-out": { POST: routes.signOut } } })
