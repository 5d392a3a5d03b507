/**
 * `npm run bench`: how fast this is, each row against its reference in one run. `-- --row NAME` measures one, `-- --json`
 * prints the figures and nothing else, `-- --quick` looks at each for a shorter time.
 */
import { cpus, loadavg } from "node:os"
import { parseArgs } from "node:util"
import * as Cold from "./Cold.js"
import * as Due from "./Due.js"
import * as Footprint from "./Footprint.js"
import * as HttpRows from "./HttpRows.js"
import * as Joiners from "./Joiners.js"
import { isMet, type Row } from "./Row.js"
import * as Start from "./Start.js"
import * as Storm from "./Storm.js"
import * as Warm from "./Warm.js"

const { values } = parseArgs({
  options: {
    row: { type: "string" },
    json: { type: "boolean", default: false },
    quick: { type: "boolean", default: false }
  }
})

const all = [
  ...Warm.rows,
  ...Joiners.rows,
  ...Storm.rows,
  ...Cold.rows,
  ...Due.rows,
  ...HttpRows.rows,
  ...Footprint.rows,
  ...Start.rows
]
const wanted = values.row === undefined ? all : all.filter(({ name }) => name === values.row)
if (wanted.length === 0) {
  console.error(`No row is called ${values.row}: there are ${all.map(({ name }) => name).join(", ")}`)
  process.exit(1)
}

const say = (line: string) => (values.json ? undefined : console.log(line))

say(
  `${cpus()[0]?.model ?? "?"}, ${cpus().length} processors, load ${loadavg()[0]?.toFixed(1)}; Node ${process.version}`
)
/** The others may be measured, whatever is wrong with one. */
const figureOf = async (row: Row): Promise<number | undefined> => {
  try {
    return await row.measure()
  } catch (error) {
    console.error(`BROKEN ${row.name}:`, error)
    process.exitCode = 1
    return undefined
  }
}

const measured = []
for (const row of wanted) {
  const begun = performance.now()
  const figure = await figureOf(row)
  if (figure === undefined) continue
  const met = isMet(row, figure)
  measured.push({ row: row.name, figure: Number(figure.toFixed(3)), target: row.target, met })
  const target = `${row.isFloor === true ? "≥" : "≤"} ${row.target}`
  const seconds = ((performance.now() - begun) / 1000).toFixed(0)
  say(
    `${met ? "met   " : "MISSED"} ${row.name.padEnd(18)} ${figure.toFixed(2).padStart(8)} (${target}) ${row.figure} [${seconds} s]`
  )
}
if (values.json) console.log(JSON.stringify(measured))
process.exit()
