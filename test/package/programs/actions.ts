/** `cal-tokens/actions` by the variables of the service: PostgreSQL, and no line of Effect. */
import * as Actions from "cal-tokens/actions"

const cal = Actions.make({ authorize: (userUlid) => userUlid.startsWith("01ARZ3") })
const info = await cal.getCalTokenInfo("01ARZ3NDEKTSV4RRFFQ69G5FAV")
const other = await cal.ensureValidCalToken("01BX5ZZKBKACTAV9WEVGEMMVRZ")
await cal.dispose()
console.log(Actions.isFailure(info) ? info.code : info.status, Actions.isFailure(other) ? other.code : other.expiresAt)
