/**
 * Sees everything that a program lets be seen: its logs in every built-in format, its spans, its metrics, whatever it
 * writes to a console, and each value that a test hands over. And finds secrets in it.
 */
import { inspect } from "node:util"
import { assert } from "@effect/vitest"
import { Cause, Console, Effect, Exit, Inspectable, Layer, Logger, LogLevel, Metric, Predicate, Tracer } from "effect"
import { Schema } from "effect"
import { isTokenError, toFailure, TokenError } from "../../src/TokenError.js"
import * as Secrets from "./Secrets.js"

export interface Witness {
  readonly secrets: Secrets.Secrets
  /** Tracer, loggers at every level, and console. Provide it around the program. */
  readonly layer: Layer.Layer<never>
  /** Takes a value that somebody outside could see, in every rendering there is. */
  readonly note: (channel: string, value: unknown) => void
  /** Takes the end of an effect, and logs its failure in every way a program might. */
  readonly noteExit: (channel: string, exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
  /** How much was seen, by channel. */
  readonly seen: () => ReadonlyMap<string, number>
  /** Fails if a secret was seen anywhere; names channel, secret and form. */
  readonly assertClean: Effect.Effect<void>
  readonly findings: Effect.Effect<ReadonlyArray<string>>
}

const attempt = (render: () => unknown): string => {
  try {
    const text = render()
    return typeof text === "string" ? text : ""
  } catch {
    return ""
  }
}

/** All renderings of a value. */
const renderings = (value: unknown): ReadonlyArray<string> => [
  attempt(() => JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? `${part}` : part))),
  attempt(() =>
    inspect(value, { depth: Infinity, showHidden: true, maxArrayLength: null, maxStringLength: null, getters: true })
  ),
  attempt(() => inspect(value)),
  attempt(() => String(value)),
  attempt(() => Inspectable.toStringUnknown(value)),
  attempt(() => Inspectable.stringifyCircular(value)),
  ...(Cause.isCause(value) ? causeRenderings(value) : []),
  ...(Exit.isExit(value) && Exit.isFailure(value) ? causeRenderings(value.cause) : []),
  ...(value instanceof Error ? errorRenderings(value) : []),
  ...(Predicate.isIterable(value) && typeof value !== "string" && !Array.isArray(value)
    ? [...value].flatMap(renderings)
    : [])
]

const causeRenderings = (cause: Cause.Cause<unknown>): ReadonlyArray<string> => [
  attempt(() => Cause.pretty(cause)),
  attempt(() => Cause.pretty(cause, { renderErrorCause: true })),
  ...Cause.prettyErrors(cause).flatMap((error) => [
    error.message,
    error.stack ?? "",
    attempt(() => String(error.cause))
  ]),
  ...[...Cause.failures(cause), ...Cause.defects(cause)].flatMap(renderings)
]

const errorRenderings = (error: Error): ReadonlyArray<string> => [
  error.message,
  error.stack ?? "",
  attempt(() => error.toString()),
  attempt(() => Cause.pretty(Cause.fail(error), { renderErrorCause: true })),
  ...(isTokenError(error)
    ? [JSON.stringify(Schema.encodeSync(TokenError)(error)), JSON.stringify(toFailure(error))]
    : []),
  ...(error.cause === undefined ? [] : renderings(error.cause))
]

export const make = (): Witness => {
  const secrets = Secrets.make()
  // Renderings repeat themselves a lot.
  const texts = new Map<string, Set<string>>()
  const seen = new Map<string, number>()

  const take = (channel: string, text: string) => {
    const channelTexts = texts.get(channel) ?? new Set()
    texts.set(channel, channelTexts.add(text))
    seen.set(channel, (seen.get(channel) ?? 0) + 1)
  }
  const note = (channel: string, value: unknown) => renderings(value).forEach((text) => take(channel, text))

  const pretty = [
    Logger.prettyLogger({ mode: "tty", colors: true }),
    Logger.prettyLogger({ mode: "tty", colors: false, stderr: true }),
    Logger.prettyLogger({ mode: "browser" })
  ]
  const logger = Logger.make<unknown, void>((options) => {
    take("log.string", Logger.stringLogger.log(options))
    take("log.logfmt", Logger.logfmtLogger.log(options))
    take("log.json", Logger.jsonLogger.log(options))
    note("log.structured", Logger.structuredLogger.log(options))
    pretty.forEach((each) => each.log(options))
    note("log.message", options.message)
    note("log.cause", options.cause)
    note("log.annotations", options.annotations)
    note("log.spans", options.spans)
  })

  const writing =
    (name: string) =>
    (...args: ReadonlyArray<unknown>) =>
      args.forEach((arg) => note(`console.${name}`, arg))
  const unsafe = new Proxy(globalThis.console, { get: (_, name) => writing(String(name)) })
  const console = new Proxy(
    {
      [Console.TypeId]: Console.TypeId,
      unsafe
    },
    {
      get: (target, name) =>
        name in target
          ? target[name as keyof typeof target]
          : (...args: ReadonlyArray<unknown>) => Effect.sync(() => writing(String(name))(...args))
    }
  ) as unknown as Console.Console

  let spans = 0
  const tracer = Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind, options) => {
      const attributes = new Map<string, unknown>()
      let status: Tracer.SpanStatus = { _tag: "Started", startTime }
      const id = (++spans).toString(16).padStart(16, "0")
      take("span.name", name)
      note("span.options", { attributes: options?.attributes, links: options?.links?.map((link) => link.attributes) })
      return {
        _tag: "Span",
        name,
        spanId: id,
        traceId: id.padStart(32, "0"),
        parent,
        context,
        links,
        kind,
        sampled: true,
        get status() {
          return status
        },
        attributes,
        attribute: (key, value) => {
          attributes.set(key, value)
          note("span.attribute", [key, value])
        },
        event: (event, _, more) => note("span.event", [event, more]),
        addLinks: (more) =>
          note(
            "span.link",
            more.map((link) => link.attributes)
          ),
        end: (endTime, exit) => {
          status = { _tag: "Ended", startTime, endTime, exit }
          // Exporters show failures; a success is the caller's own.
          if (Exit.isFailure(exit)) note("span.failure", exit.cause)
        }
      } satisfies Tracer.Span
    }
  })

  const noteMetrics = Effect.map(Metric.snapshot, (pairs) =>
    pairs.forEach(({ metricKey, metricState }) =>
      note("metric", [metricKey.name, metricKey.tags, metricKey.description, metricState])
    )
  )

  const findings = Effect.map(noteMetrics, () =>
    [...texts].flatMap(([channel, all]) =>
      secrets.find([...all].join("\u0000")).map((finding) => `${channel}: ${finding.name} (${finding.form})`)
    )
  )

  return {
    secrets,
    layer: Layer.mergeAll(
      Layer.setTracer(tracer),
      Logger.add(logger),
      Logger.minimumLogLevel(LogLevel.All),
      Console.setConsole(console)
    ),
    note,
    noteExit: (channel, exit) =>
      Effect.gen(function* () {
        note(channel, exit)
        if (Exit.isSuccess(exit)) return note(channel, exit.value)
        yield* Effect.logError("An operation failed", exit.cause)
        yield* Effect.logDebug(Cause.squash(exit.cause))
        yield* Effect.logError("An operation failed").pipe(Effect.annotateLogs({ error: Cause.squash(exit.cause) }))
        yield* Console.error(Cause.squash(exit.cause))
      }).pipe(Effect.withSpan("test.failure", { attributes: { exit } })),
    seen: () => seen,
    findings,
    assertClean: Effect.map(findings, (found) => assert.deepStrictEqual(found, []))
  }
}
