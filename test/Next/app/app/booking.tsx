// app/booking.tsx: the form, and why nothing was booked
"use client"

import { useActionState } from "react"
import { book } from "./actions"

export const Booking = () => {
  const [problem, action, isPending] = useActionState(book, "")
  return (
    <form action={action}>
      <input name="name" defaultValue="Grace" />
      <button disabled={isPending}>Book</button>
      <p role="alert">{problem}</p>
    </form>
  )
}
