// app/page.tsx
import { isFailure } from "cal-tokens/actions"
import { cal } from "@/lib/cal"
import { currentUser } from "@/lib/session"
import { book } from "./actions"
import { Profile } from "./profile"

interface Bookings {
  data: Array<{ uid: string; title: string }>
}

const Connect = ({ label }: { label: string }) => (
  <form method="post" action="/api/cal/connect?returnTo=/">
    <button>{label}</button>
  </form>
)

export default async function Page() {
  const user = await currentUser()
  if (user === undefined) return <p id="state">Signed out</p>
  const bookings = await cal.makeCalApiRequest<Bookings>("/bookings", "GET", undefined, user)
  if (isFailure(bookings)) {
    if (bookings.code === "TokensNotFound") return <Connect label="Connect Cal.com" />
    if (bookings.code === "ReauthorizationRequired") return <Connect label="Connect Cal.com again" />
    return <p id="state">{bookings.error}</p>
  }
  return (
    <main>
      <ul>
        {bookings.data.map(({ title, uid }) => (
          <li key={uid}>{title}</li>
        ))}
      </ul>
      <form action={book}>
        <input name="name" defaultValue="Grace" />
        <button>Book</button>
      </form>
      <Profile />
    </main>
  )
}
