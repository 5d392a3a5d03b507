/** Over HTTP: a fresh token, against an empty endpoint of the platform with the same schemas. */
import * as Load from "./Load.js"
import type { Row } from "./Row.js"

const warm: Row = {
  name: "http",
  figure: "× the throughput of an empty HttpApi endpoint with the same schemas",
  target: 0.9,
  isFloor: true,
  measure: async () => {
    const [ours, floor] = await Promise.all([Load.serve("ours"), Load.serve("floor")])
    try {
      return await Load.compare(5, ours, floor)
    } finally {
      await Promise.all([Load.end(ours), Load.end(floor)])
    }
  }
}

export const rows: ReadonlyArray<Row> = [warm]
