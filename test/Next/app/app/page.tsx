// app/page.tsx
import { isFailure } from "cal-tokens/actions"
import { connection } from "next/server"
import { Suspense } from "react"
import { cal } from "@/lib/cal"
import { currentUser } from "@/lib/session"
import { Booking } from "./booking"
import { Profile } from "./profile"

interface Bookings {
  data: Array<{ uid: string; title: string }>
}

interface Props {
  searchParams: Promise<{ calError?: string | Array<string> }>
}

const Connect = ({ label }: { label: string }) => (
  <form method="post" action="/api/cal/connect?returnTo=/">
    <button>{label}</button>
  </form>
)

const Problem = async ({ searchParams }: Props) => {
  const { calError } = await searchParams
  if (calError === undefined) return null
  if (calError === "CalAccountInUse") return <p role="alert">This Cal.com account is connected to somebody else.</p>
  return <p role="alert">Cal.com could not be connected. Please try again.</p>
}

const Calendar = async () => {
  await connection()
  const user = await currentUser()
  if (user === undefined) return <p id="state">Signed out</p>
  const bookings = await cal.makeCalApiRequest<Bookings>("/bookings", "GET", undefined, user)
  if (isFailure(bookings)) {
    if (bookings.code === "TokensNotFound") return <Connect label="Connect Cal.com" />
    if (bookings.code === "ReauthorizationRequired") return <Connect label="Connect Cal.com again" />
    return <p id="state">Your calendar is not available right now. Please try again.</p>
  }
  return (
    <main>
      <ul>
        {bookings.data.map(({ title, uid }) => (
          <li key={uid}>{title}</li>
        ))}
      </ul>
      <Booking />
      <Profile />
    </main>
  )
}

export default function Page({ searchParams }: Props) {
  return (
    <Suspense fallback={<p>Loading</p>}>
      <Problem searchParams={searchParams} />
      <Calendar />
    </Suspense>
  )
}
