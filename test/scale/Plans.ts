/**
 * What PostgreSQL intends to do for a statement, and does: read from `EXPLAIN (FORMAT JSON)`.
 */
import type { SqlClient, Statement } from "@effect/sql"
import { Effect } from "effect"

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Index Name"?: string
  readonly "Total Cost": number
  /** Only of a statement that was run. */
  readonly "Actual Loops"?: number
  readonly Plans?: ReadonlyArray<Node>
}

export interface Plan {
  readonly types: ReadonlyArray<string>
  readonly indexes: ReadonlyArray<string>
  /** In PostgreSQL's unit, the reading of one page in sequence. */
  readonly cost: number
  /** Tables that are read from end to end. */
  readonly sequential: ReadonlyArray<string>
  /** Partitions that are looked into; of a statement that was run, the ones that it did look into. */
  readonly partitions: ReadonlyArray<string>
}

/** A statement of the storage, or the text of one of the server's own. */
export type Explained = Statement.Statement<object> | string

/** How the statement would run. `run`: how it did run, then to be rolled back. */
export const explain = (sql: SqlClient.SqlClient, statement: Explained, { run = false } = {}) =>
  Effect.gen(function* () {
    const [text, parameters] = typeof statement === "string" ? [statement, []] : statement.compile()
    // Parameters that the server would fill in itself have no value here.
    const mode = typeof statement === "string" ? ", generic_plan" : run ? ", analyze" : ""
    const rows = yield* sql.unsafe<{ readonly "QUERY PLAN": ReadonlyArray<{ readonly Plan: Node }> }>(
      `explain (format json${mode}) ${text}`,
      parameters
    )
    const root = rows[0]?.["QUERY PLAN"][0]?.Plan
    if (root === undefined) return yield* Effect.dieMessage("no plan")
    return read(root, run)
  })

const read = (root: Node, run: boolean): Plan => {
  const scans = nodes(root).filter((node) => node["Node Type"].endsWith("Scan") && node["Relation Name"] !== undefined)
  const names = (some: ReadonlyArray<Node>) => [...new Set(some.map((node) => node["Relation Name"] ?? ""))].sort()
  return {
    types: nodes(root).map((node) => node["Node Type"]),
    indexes: nodes(root).flatMap((node) => node["Index Name"] ?? []),
    cost: root["Total Cost"],
    sequential: names(scans.filter((node) => node["Node Type"] === "Seq Scan")),
    partitions: names(scans.filter((node) => !run || (node["Actual Loops"] ?? 0) > 0)).filter((name) =>
      /^connection_p\d+$/.test(name)
    )
  }
}

const nodes = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodes)]
