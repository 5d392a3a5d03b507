/** A fresh token of a user whom this process does not remember. */
import * as BareCalls from "./BareCalls.js"
import { type Row, ratio } from "./Row.js"
import * as World from "./World.js"

const row: Row = {
  name: "cold",
  figure: "× the bare select of a row by its key, on PostgreSQL",
  target: 1.5,
  measure: async () => {
    // Nobody is refreshed, and whoever is asked for again has been forgotten meanwhile.
    const world = await World.make("http://127.0.0.1:1/v2", { memoryMaxEntries: 100 })
    await world.connectAll("fresh")
    const bare = BareCalls.reader(world.database)
    const figure = await ratio(
      7,
      () => world.ensureAll(10),
      () => BareCalls.each(World.users, 10, bare.read)
    )
    await bare.close()
    await world.close()
    return figure
  }
}

export const rows: ReadonlyArray<Row> = [row]
