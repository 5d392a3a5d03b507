/**
 * Reads as many mutated answers as wanted: `npm run mutate -- --answers 1000000 [--seed N]`. Exits with 1 and the first
 * failing ones if a new token is lost or a foreign one is taken; `--seed N --answers 1 --show` shows one.
 */
import { randomInt } from "node:crypto"
import { parseArgs } from "node:util"
import * as Campaign from "./Campaign.js"
import * as Case from "./Case.js"

/** So many answers; one in a thousand is cut off after each of its bytes, which makes a thousand of it. */
function* draws(seed: number, answers: number) {
  let made = 0
  for (let index = 0; made < answers; index++) {
    const cases = index % 1000 === 999 ? Case.cuts(seed + index) : [Case.draw(seed + index)]
    for (const each of cases.slice(0, answers - made)) {
      made++
      yield each
    }
  }
}

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      answers: { type: "string", default: "10000" },
      seed: { type: "string" },
      show: { type: "boolean", default: false }
    }
  })
  const seed = values.seed === undefined ? randomInt(2 ** 31) : Number(values.seed)
  const answers = Number(values.answers)
  if (values.show) {
    process.stdout.write(`${Campaign.explain({ each: Case.draw(seed), wrong: "this is the answer" })}\n`)
    return 0
  }
  process.stdout.write(`${answers} answers from seed ${seed} on\n`)
  const startedAt = performance.now()
  const result = Campaign.tally()
  await Campaign.run(draws(seed, answers), result)
  const rate = result.answers / Math.max(0.001, (performance.now() - startedAt) / 1000)
  process.stdout.write(`${result.answers} answers, ${rate.toFixed(0)}/s\n${Campaign.table(result)}\n\n`)
  for (const failure of result.failures.slice(0, 5)) process.stdout.write(`${Campaign.explain(failure)}\n\n`)
  process.stdout.write(
    result.failures.length === 0
      ? "no new token was lost, and no other was taken\n"
      : `${result.failures.length} answers were read wrongly\n`
  )
  return result.failures.length === 0 ? 0 : 1
}

process.exitCode = await main()
