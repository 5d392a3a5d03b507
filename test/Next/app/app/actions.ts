// app/actions.ts
"use server"

import { isFailure } from "cal-tokens/actions"
import { revalidatePath } from "next/cache"
import { cal } from "@/lib/cal"
import { currentUser } from "@/lib/session"

export const book = async (form: FormData): Promise<void> => {
  const user = await currentUser()
  if (user === undefined) return
  const types = await cal.makeCalApiRequest<{ data: Array<{ id: number }> }>("/event-types", "GET", undefined, user)
  if (isFailure(types)) return
  const attendee = { name: String(form.get("name")), email: "guest@example.com", timeZone: "UTC" }
  const booking = { start: "2030-01-07T10:00:00Z", eventTypeId: types.data[0]?.id, attendee }
  const booked = await cal.makeCalApiRequest("/bookings", "POST", booking, user)
  if (isFailure(booked)) console.error("not booked", booked.code)
  revalidatePath("/")
}
