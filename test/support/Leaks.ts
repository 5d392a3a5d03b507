/** Everything that a program might print, searched for secrets. */
import { format, inspect } from "node:util"
import { assert } from "@effect/vitest"
import { Cause, Effect, type Exit, Layer, Logger, LogLevel, Ref, Tracer } from "effect"

/** All renderings of a value: as JSON, as Node prints it, and what an error would say. */
export const renderings = (value: unknown): string =>
  [
    JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part)),
    inspect(value, { depth: 20, showHidden: true }),
    format("%s", value),
    value instanceof Error ? `${value.message}\n${value.stack}\n${JSON.stringify(value.cause)}` : ""
  ].join("\n")

export const exitRenderings = <A, E>(exit: Exit.Exit<A, E>): string =>
  exit._tag === "Failure"
    ? [
        Cause.pretty(exit.cause, { renderErrorCause: true }),
        renderings(exit.cause),
        renderings(Cause.squash(exit.cause))
      ].join("\n")
    : renderings(exit.value)

/** Fails if a secret is in the text, naming none. */
export const assertClean = (text: string, secrets: ReadonlyArray<string>): void =>
  secrets.forEach((secret, index) => assert.isFalse(text.includes(secret), `secret ${index} leaked`))

/** A tracer and a logger that keep what they are given, as text. */
export const recording = Effect.gen(function* () {
  const texts = yield* Ref.make("")
  const append = (text: string) => Effect.runSync(Ref.update(texts, (all) => `${all}\n${text}`))
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const span: Tracer.Span = {
        _tag: "Span",
        name,
        spanId: "0123456789abcdef",
        traceId: "0123456789abcdef0123456789abcdef",
        parent,
        context,
        links,
        kind,
        sampled: true,
        status: { _tag: "Started", startTime },
        attributes,
        attribute: (key, value) => {
          attributes.set(key, value)
        },
        event: (event, _, more) => append(`${event} ${renderings(more)}`),
        addLinks: () => undefined,
        end: (endTime, exit) => append(`${name} ${renderings([...attributes])} ${exitRenderings(exit)} ${endTime}`)
      }
      spans.push(span)
      return span
    }
  })
  const logger = Logger.make((options) => {
    append(renderings(options.message))
    append(Logger.jsonLogger.log(options))
    append(Logger.logfmtLogger.log(options))
    append(Cause.pretty(options.cause))
  })
  const layer = Layer.mergeAll(
    Layer.setTracer(tracer),
    Logger.replace(Logger.defaultLogger, logger),
    Logger.minimumLogLevel(LogLevel.All)
  )
  return { layer, spans, text: Ref.get(texts) }
})
