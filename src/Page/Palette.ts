/** The colours of the style sheet as a canvas takes them: another set when the scheme changes. */

export type Colour =
  "ahead" | "asked" | "refused" | "reissue" | "quiet" | "line" | "sunken" | "broken" | "accent" | "text" | "surface"

const known = new Map<Colour, string>()
const hatches = new Map<Colour, CanvasPattern | string>()
const listeners = new Set<() => void>()

const forget = () => {
  known.clear()
  hatches.clear()
  for (const listener of [...listeners]) listener()
}

for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
  matchMedia(query).addEventListener("change", forget)
}

export const onChange = (listener: () => void): (() => void) => {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}

/** A custom property is told as it is written; a colour as it is. */
export const colour = (name: Colour): string => {
  const found = known.get(name)
  if (found !== undefined) return found
  const probe = document.body.appendChild(document.createElement("span"))
  probe.style.forcedColorAdjust = "none"
  probe.style.color = `var(--${name})`
  const { color } = getComputedStyle(probe)
  probe.remove()
  known.set(name, color)
  return color
}

export const font = (): string => `12px ${getComputedStyle(document.documentElement).fontFamily}`

const tile = 6

/** Diagonal lines: what failed looks like it without colours, too. */
export const hatched = (name: Colour): CanvasPattern | string => {
  const found = hatches.get(name)
  if (found !== undefined) return found
  const size = Math.round(tile * devicePixelRatio)
  const canvas = document.createElement("canvas")
  canvas.width = canvas.height = size
  const context = canvas.getContext("2d")
  if (context === null) return colour(name)
  context.strokeStyle = colour(name)
  context.lineWidth = size / 2.4
  context.beginPath()
  for (const x of [-size, 0, size]) {
    context.moveTo(x - 1, size + 1)
    context.lineTo(x + size + 1, -1)
  }
  context.stroke()
  const pattern = context.createPattern(canvas, "repeat") ?? colour(name)
  hatches.set(name, pattern)
  return pattern
}
