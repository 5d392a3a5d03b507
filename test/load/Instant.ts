/** Clocks that all processes of this machine agree about. */

/** Milliseconds since the epoch, with fractions, that never go back: the same for all processes of this machine. */
export const now = (): number => performance.timeOrigin + performance.now()

/** Processor time of this process so far, in ms. */
export const cpu = (): number => {
  const { system, user } = process.cpuUsage()
  return (user + system) / 1000
}
