// app/profile.tsx: in the browser, which has no token and needs none
"use client"

import { useState } from "react"

export const Profile = () => {
  const [name, setName] = useState("")
  const load = async () => {
    const response = await fetch("/api/cal/me/me")
    setName(((await response.json()) as { data: { name: string } }).data.name)
  }
  return <button onClick={() => void load()}>{name === "" ? "Who am I?" : `You are ${name}`}</button>
}
