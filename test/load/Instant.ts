/** Milliseconds since the epoch, with fractions, that never go back: the same for all processes of this machine. */
export const now = (): number => performance.timeOrigin + performance.now()
