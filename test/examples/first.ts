import * as Actions from "cal-tokens/actions"
import { startSandbox } from "cal-tokens/sandbox"

const cal = await startSandbox() // a simulated Cal.com on a free port, and a memory for tokens
const actions = Actions.make({ layer: cal.layer }) // without a layer: Cal.com and PostgreSQL, by environment variables

const user = "01ARZ3NDEKTSV4RRFFQ69G5FAV" // a ULID or UUID of yours
await cal.connect(user)
await cal.expire(user) // at Cal.com, which refuses the token from now on
const me = () => actions.makeCalApiRequest("/me", "GET", undefined, user)
const answers = await Promise.all(Array.from({ length: 100 }, me))
const good = answers.filter((answer) => !Actions.isFailure(answer))
console.log(`${good.length} answers, ${cal.count("refresh")} refresh`) // 100 answers, 1 refresh
await cal.close()
