/** The processor time of a PostgreSQL, as Linux counts it. */
import { readdirSync, readFileSync } from "node:fs"
import Pg from "pg"

/** The time so far of the server that a URL leads to, in ms: its processes', and that of those that have ended. */
export const serverTime = async (url: string): Promise<() => number> => {
  const client = new Pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ readonly pid: number }>(
      String.raw`select split_part(pg_read_file('postmaster.pid'), E'\n', 1)::integer as pid`
    )
    const pid = rows[0]?.pid
    if (pid === undefined) throw new Error("no process")
    return () => timeOf(pid)
  } finally {
    await client.end()
  }
}

const timeOf = (postmaster: number): number => {
  const ticks = readdirSync("/proc").map((name) => {
    const pid = Number(name)
    if (Number.isNaN(pid)) return 0
    // The name before it, in brackets, may contain anything: counted is what is behind it.
    const [, parent, ...rest] = statOf(pid)
      .replace(/^.*\) /s, "")
      .split(" ")
      .map(Number)
    const [utime = 0, stime = 0, endedUtime = 0, endedStime = 0] = rest.slice(9)
    if (pid === postmaster) return utime + stime + endedUtime + endedStime
    return parent === postmaster ? utime + stime : 0
  })
  // Linux counts in hundredths of a second, whatever the kernel was built for.
  return ticks.reduce((sum, own) => sum + own, 0) * 10
}

const statOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8")
  } catch {
    // It has just ended.
    return ""
  }
}
