// app/actions.ts
"use server"

import { isFailure } from "cal-tokens/actions"
import { revalidatePath } from "next/cache"
import { cal } from "@/lib/cal"
import { currentUser } from "@/lib/session"

/** Answers why it did not book, or nothing. */
export const book = async (_before: string, form: FormData): Promise<string> => {
  const user = await currentUser()
  if (user === undefined) return "Please sign in."
  const types = await cal.makeCalApiRequest<{ data: Array<{ id: number }> }>("/event-types", "GET", undefined, user)
  if (isFailure(types)) return "Cal.com is not available right now. Please try again."
  const attendee = { name: String(form.get("name")), email: "guest@example.com", timeZone: "UTC" }
  const booking = { start: "2030-01-07T10:00:00Z", eventTypeId: types.data[0]?.id, attendee }
  const booked = await cal.makeCalApiRequest("/bookings", "POST", booking, user)
  if (isFailure(booked)) return "Nothing was booked. Please try another time."
  revalidatePath("/")
  return ""
}
