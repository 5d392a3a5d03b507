/**
 * What a caller of an HTTP API depends on, in a line for each thing that could change: operations with their security,
 * input, statuses and answers, and the fields of what they name. Words are left out: they may change.
 */
import type { OpenApi } from "@effect/platform"

type Spec = OpenApi.OpenAPISpec

interface Schema {
  readonly $ref?: string
  readonly type?: string
  readonly format?: string
  readonly enum?: ReadonlyArray<unknown>
  readonly anyOf?: ReadonlyArray<Schema>
  readonly items?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema
  readonly required?: ReadonlyArray<string>
  readonly [limit: string]: unknown
}

const limits = ["minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "pattern", "default"]

/** As TypeScript would write it, with formats for strings and limits in brackets. */
const shape = (schema: Schema): string => {
  const { $ref, additionalProperties, anyOf, enum: values, format, items, properties, required = [], type } = schema
  if ($ref !== undefined) return $ref.replace("#/components/schemas/", "")
  if (anyOf !== undefined) return anyOf.map(shape).join(" | ")
  if (values !== undefined) return values.map((value) => JSON.stringify(value)).join(" | ")
  if (items !== undefined) return `Array<${shape(items)}>`
  if (additionalProperties !== undefined) return `Record<string, ${shape(additionalProperties)}>`
  if (properties !== undefined) {
    const fields = Object.entries(properties).map(
      ([name, field]) => `${name}${required.includes(name) ? "" : "?"}: ${shape(field)}`
    )
    return `{ ${fields.join(", ")} }`
  }
  const limited = limits.filter((name) => name in schema).map((name) => `${name} ${JSON.stringify(schema[name])}`)
  return (format ?? type ?? "anything") + (limited.length === 0 ? "" : ` [${limited.join(", ")}]`)
}

type Content = Readonly<Record<string, { readonly schema: object }>>

const body = (content: Content = {}) =>
  Object.entries(content).map(([type, { schema }]) =>
    type === "application/json" ? shape(schema as Schema) : `${type} ${shape(schema as Schema)}`
  )

export const make = ({ components, paths }: Spec): string => {
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { operationId, parameters, requestBody, responses, security }]) => {
      const keys = security.flatMap((one) => Object.entries(one).map(([name, scopes]) => [name, ...scopes].join(" ")))
      return [
        `${method.toUpperCase()} ${path} = ${operationId}, ${keys.length === 0 ? "open" : keys.join(" or ")}`,
        ...parameters.map(
          (one) => `  ${one.in} ${one.name}${one.required ? "" : "?"}: ${shape(one.schema as unknown as Schema)}`
        ),
        ...body(requestBody?.content as Content | undefined).map(
          (taken) => `  body${requestBody?.required === true ? "" : "?"}: ${taken}`
        ),
        ...Object.entries(responses).map(([status, { content }]) =>
          [`  ${status}`, body(content as Content | undefined).join("; ")].join(" ").trimEnd()
        )
      ].join("\n")
    })
  )
  const schemas = Object.entries(components.schemas).map(([name, schema]) => `${name} = ${shape(schema as Schema)}`)
  return [...operations, schemas.join("\n")].join("\n\n")
}
