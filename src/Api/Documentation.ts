/**
 * The OpenAPI document as it is published: what the platform derives from the API value, with examples, headers and
 * scopes, without failures that an operation never answers, and with the proxies, which are no endpoints of the value.
 */
import type { OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Scope } from "../ApiKeys/Scope.js"
import { facts, type Tag } from "../ErrorFacts.js"
import * as Atoms from "./Atoms.js"
import { examples } from "./Examples.js"
import * as Sessions from "./Sessions.js"
import { exampleUlid } from "./Values.js"

type Spec = OpenApi.OpenAPISpec
type Operation = OpenApi.OpenAPISpecOperation
type Response = OpenApi.OpenApiSpecResponse
type Schemas = Spec["components"]["schemas"]

const nameOf = ({ operationId }: Operation) => operationId.replace(/^.*\./, "")

/** What an operation never answers. The router's own answers (404, 405) belong to no operation. */
const isForeign = (path: string, operation: Operation, failure: string): boolean =>
  path === Atoms.path
    ? !failure.startsWith("Atoms")
    : path.startsWith("/health/")
      ? failure !== "Unhealthy" && failure !== "InternalError"
      : ["HttpApiDecodeError", "NotFound", "MethodNotAllowed"].includes(failure) ||
        (failure === "PayloadTooLarge" && operation.requestBody === undefined)

const isTag = (name: string): name is Tag => name in facts

const prefix = "#/components/schemas/"

/** The names of the schemas that an answer refers to. */
const namesIn = (schema: object | undefined): ReadonlyArray<string> => [
  ...new Set(
    Array.from(JSON.stringify(schema ?? {}).matchAll(/"#\/components\/schemas\/([^"]+)"/g), ([, name = ""]) => name)
  )
]

const exampleOf = (name: string, description: string) => {
  if (name === "Unhealthy") return { status: "unavailable" }
  const code = name === "PayloadTooLarge" ? "InvalidInput" : name.replace(/^Atoms(?=.)/, "")
  return {
    ...(name.startsWith("Atoms") ? Atoms.envelope : {}),
    success: false,
    error: description,
    code,
    ...(isTag(code) && facts[code].status === 429 ? { retryAfter: 30 } : {})
  }
}

const integerHeader = (description: string) => ({ description, schema: { type: "integer", minimum: 1 } })

const headersOf = (status: string) => {
  switch (status) {
    case "429":
      return { headers: { "Retry-After": integerHeader("Seconds until the same call may succeed.") } }
    case "502":
    case "503":
      return { headers: { "Retry-After": integerHeader("Seconds, where a time is known.") } }
    case "401":
      return { headers: { "WWW-Authenticate": { description: "`Bearer`.", schema: { type: "string" } } } }
    default:
      return {}
  }
}

const failureResponse = (status: string, names: ReadonlyArray<string>, schemas: Schemas) => {
  const refs = names.map((name) => ({ $ref: prefix + name }))
  return {
    description: names.map((name) => schemas[name]?.description ?? name).join(" Or: "),
    ...headersOf(status),
    content: {
      "application/json": {
        schema: refs.length === 1 ? refs[0] : { anyOf: refs },
        examples: Object.fromEntries(names.map((name) => [name, { $ref: `#/components/examples/${name}` }]))
      }
    }
  }
}

/** A failure that some meet as a page, because of where it arises. */
const withPage = (failure: ReturnType<typeof failureResponse>, { description }: Response, pages: object) =>
  Object.keys(pages).length === 0
    ? failure
    : {
        ...failure,
        description: `${description} Or: ${failure.description}`,
        content: { ...pages, ...failure.content }
      }

const responsesOf = (path: string, operation: Operation, schemas: Schemas) => {
  const example = examples[nameOf(operation)]
  const responses: Record<string, object> = {}
  for (const [status, response] of Object.entries(operation.responses)) {
    const { "application/json": json, ...others } = response.content ?? {}
    const schema = json?.schema
    const names = namesIn(schema).filter((name) => !isForeign(path, operation, name) && !isPart(name))
    if (status.startsWith("2")) {
      const [type] = Object.keys(others)
      responses[status] = {
        ...response,
        content:
          type === undefined
            ? { "application/json": { schema, example: example?.answer } }
            : { [type]: { schema: { type: "string" }, example: example?.answer } }
      }
    } else if (status.startsWith("3")) responses[status] = response
    else if (names.length > 0) responses[status] = withPage(failureResponse(status, names, schemas), response, others)
    else if (Object.keys(others).length > 0) responses[status] = { ...response, content: others }
  }
  return responses
}

/** Fields that failures share, and no failures themselves. */
const isPart = (name: string) => name === "RetryAfter" || name === "CalStatus"

/** Scopes are roles of the one security scheme; in the API value each has a name of its own. */
const securityOf = (operation: Operation) =>
  operation.security.map((requirement) => {
    const names = Object.keys(requirement)
    return names.length > 0 && names.every(Schema.is(Scope)) ? { apiKey: names } : requirement
  })

const withExample = (operation: Operation) => {
  const { requestBody } = operation
  const example = examples[nameOf(operation)]?.request
  return requestBody === undefined
    ? {}
    : {
        requestBody: {
          ...requestBody,
          content: { "application/json": { ...requestBody.content["application/json"], example } }
        }
      }
}

const proxyPath = "/api/cal/proxy/{userUlid}/{path}"
const mePath = `${Sessions.mePath}{path}`

const userParameter = {
  name: "userUlid",
  in: "path",
  required: true,
  schema: { type: "string", examples: [exampleUlid] }
}

interface Way {
  readonly tag: string
  readonly who: string
  readonly parameters: ReadonlyArray<object>
  readonly security: ReadonlyArray<object>
}

/** The ways to Cal.com's API, which are no endpoints of the value. */
const ways: Readonly<Record<string, Way>> = {
  [proxyPath]: { tag: "proxy", who: "", parameters: [userParameter], security: [{ apiKey: ["proxy"] }] },
  [mePath]: {
    tag: "me",
    who: "As the user of a session, as far as the session goes: other methods and paths are 403. ",
    parameters: [],
    security: [{ userSession: [] }]
  }
}

const proxyOperation = (method: string, like: object, { parameters, security, tag, who }: Way) => ({
  tags: [tag],
  operationId: `${tag}.${method}`,
  summary: `${method.toUpperCase()} at Cal.com`,
  description:
    who +
    "Sends the request on to Cal.com's API with the user's access token, and brings Cal.com's status, body and safe " +
    "headers back. A refused token is refreshed and the request repeated. Scopes that the user has not allowed are named in " +
    "`WWW-Authenticate` (RFC 6750). Of the request's headers `Accept`, " +
    "`Accept-Language`, `Content-Type`, `X-Request-Id` and `cal-api-version` go on. Bodies may have 1 MiB.",
  parameters: [
    ...parameters,
    {
      name: "path",
      in: "path",
      required: true,
      description: "A path below Cal.com's API, slashes included, with its query: `bookings?take=10`.",
      schema: { type: "string", examples: ["me"] }
    },
    {
      name: "cal-api-version",
      in: "header",
      required: false,
      description: "Cal.com's version of the resource that is asked for.",
      schema: { type: "string", examples: ["2024-08-13"] }
    }
  ],
  security,
  ...(["get", "delete"].includes(method)
    ? {}
    : { requestBody: { required: false, content: { "*/*": { schema: {} } } } }),
  responses: {
    ...like,
    default: { description: "Whatever Cal.com answers.", content: { "*/*": { schema: {} } } }
  }
})

/** Turns the derived document into the published one. An API that has this one in it asks for the parts only. */
export const publish = (spec: Spec): Spec => ("paths" in spec ? published(spec) : spec)

const published = (spec: Spec): Spec => {
  const { schemas, securitySchemes } = spec.components
  const paths = Object.fromEntries(
    Object.entries(spec.paths).map(([path, item]) => [
      path,
      Object.fromEntries(
        Object.entries(item).map(([method, operation]) => [
          method,
          {
            ...operation,
            ...withExample(operation),
            security: securityOf(operation),
            responses: responsesOf(path, operation, schemas)
          }
        ])
      )
    ])
  )
  const failures = Object.fromEntries(
    Object.entries(paths["/api/cal/ensure-token"]?.["post"]?.responses ?? {}).filter(([status]) => status !== "200")
  )
  const proxies = Object.entries(ways).map(([path, way]) => [
    path,
    Object.fromEntries(
      ["get", "post", "put", "patch", "delete"].map((method) => [method, proxyOperation(method, failures, way)])
    )
  ])
  const whole = { ...paths, ...(Object.fromEntries(proxies) as Record<string, object>) }
  const shown = used(schemas, whole)
  const failing = Object.entries(shown).filter(([name]) => name === "Unhealthy" || isTag(name.replace(/^Atoms/, "")))
  return open({
    ...spec,
    paths: whole,
    tags: [
      ...spec.tags,
      { name: "proxy", description: "Cal.com's API with a user's token." },
      { name: "me", description: "The same with a user session in the place of an API key, for pages and agents." }
    ],
    components: {
      schemas: shown,
      ...{
        examples: Object.fromEntries(
          failing.map(([name, { description = name }]) => [name, { value: exampleOf(name, description) }])
        )
      },
      securitySchemes: {
        apiKey: securitySchemes["manage"] ?? { type: "http", scheme: "bearer" },
        atomsToken: {
          type: "http",
          scheme: "bearer",
          description: "The Cal.com access token that Atoms hold. For the Atoms endpoint only."
        },
        userSession: {
          type: "http",
          scheme: "bearer",
          description: "A user session, made by `POST /api/cal/sessions`. For `/api/cal/me/` only."
        }
      }
    }
  })
}

/** Nothing is refused for a field too many, and answers may get more of them. */
const open = (spec: Spec): Spec =>
  JSON.parse(JSON.stringify(spec), (key, value: unknown) =>
    key === "additionalProperties" && value === false ? undefined : value
  ) as Spec

/** The schemas that something refers to, directly or through others. */
const used = (schemas: Schemas, root: object): Schemas => {
  const found = new Set(namesIn(root))
  for (const name of found) namesIn(schemas[name]).forEach((next) => found.add(next))
  return Object.fromEntries(Object.entries(schemas).filter(([name]) => found.has(name)))
}
