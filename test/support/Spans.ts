/** A tracer that keeps nothing of spans but their names, in the order in which they begin. */
import { Tracer } from "effect"

export const noting = (): { readonly tracer: Tracer.Tracer; readonly names: Array<string> } => {
  const names: Array<string> = []
  const tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      names.push(name)
      return {
        _tag: "Span",
        name,
        spanId: "1".repeat(16),
        traceId: "2".repeat(32),
        parent,
        context,
        status: { _tag: "Started", startTime },
        attributes: new Map(),
        links,
        sampled: true,
        kind,
        end: () => {},
        attribute: () => {},
        event: () => {},
        addLinks: () => {}
      }
    },
    context: (execution) => execution()
  })
  return { tracer, names }
}
