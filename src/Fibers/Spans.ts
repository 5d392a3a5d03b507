/** Spans where somebody looks at them: a span that nobody sees costs as much as some answers. */
import { Context, DefaultServices, Effect, type Fiber, Tracer } from "effect"

/** Effect's own tracer, which is there unless another one is. */
const unseen = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** As `Effect.withSpan` does. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  name: string,
  options: () => Tracer.SpanOptions
): Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>> =>
  Effect.withFiberRuntime((fiber) =>
    fiber.currentTracer === unseen
      ? (effect as Effect.Effect<A, E, Exclude<R, Tracer.ParentSpan>>)
      : Effect.withSpan(effect, name, options())
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
