/** Spans where somebody looks at them: a span that nobody sees costs as much as some answers. */
import { Context, DefaultServices, Effect, Fiber, Option, Tracer } from "effect"

/** Effect's own tracer, which is there unless another one is. */
const unseen = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** As `Effect.withSpan` does. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string | (() => string),
  options: () => Tracer.SpanOptions
): Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>> =>
  Effect.withFiberRuntime((fiber) =>
    fiber.currentTracer === unseen
      ? (effect as Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>>)
      : Effect.withSpan(effect, typeof name === "string" ? name : name(), options())
  )

/** As `Effect.annotateCurrentSpan` does. That there is no span is no failure here: those cost more than what is noted. */
export const annotate = (attributes: Readonly<Record<string, unknown>>): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => {
    annotateOf(fiber, attributes)
    return Effect.void
  })

/** The same for the span that a fiber is in. */
export const annotateOf = (
  { currentSpan }: Fiber.RuntimeFiber<unknown, unknown>,
  attributes: Readonly<Record<string, unknown>>
): void => {
  if (currentSpan?._tag !== "Span") return
  for (const [name, value] of Object.entries(attributes)) currentSpan.attribute(name, value)
}

/** Work for a fiber of the service, below the span of whoever starts it. That fiber inherits nothing else of theirs. */
export const below = <A, E>(work: Effect.Effect<A, E>): Effect.Effect<A, E> => {
  const caller = Option.getOrUndefined(Fiber.getCurrentFiber())
  const span = caller?.currentSpan
  return span === undefined || caller?.currentTracer === unseen ? work : Effect.withParentSpan(work, span)
}

/** Of fibers that others join: the span of what they do. */
const spans = new WeakMap<object, Tracer.AnySpan>()

/** Shows the span that a fiber is in to whoever joins the fiber. */
export const shown = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime((fiber) => {
    if (fiber.currentSpan !== undefined) spans.set(fiber, fiber.currentSpan)
    return effect
  })

/** The wait for a fiber that somebody else started: the span of whoever waits is linked to what that shows. */
export const joining = <A, E, R>(joined: object, wait: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiberRuntime(({ currentSpan: own, currentTracer }) => {
    if (currentTracer === unseen || own?._tag !== "Span") return wait
    return Effect.onExit(wait, () =>
      Effect.sync(() => {
        const span = spans.get(joined)
        if (span !== undefined) own.addLinks([{ _tag: "SpanLink", span, attributes: {} }])
      })
    )
  })

/** Whom a request goes to, as OpenTelemetry names it. */
export const serverOf = (url: string): Readonly<Record<string, unknown>> => {
  if (!URL.canParse(url)) return {}
  const { hostname, port, protocol } = new URL(url)
  return { "server.address": hostname, "server.port": Number(port) || (protocol === "https:" ? 443 : 80) }
}
