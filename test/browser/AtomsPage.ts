/**
 * A page that treats its access token as Cal.com's Atoms do: it looks at mount whether Cal.com takes the token, has it
 * replaced when the answer is 498 or 401, and in later calls on 498 only; the call that was refused is repeated once.
 */
export interface Options {
  readonly calUrl: string
  readonly clientId: string
  readonly refreshUrl: string
  /** As the website's server put it into the page. */
  readonly accessToken: string
}

const script = (options: Options) => `
const { calUrl, clientId, refreshUrl, accessToken } = ${JSON.stringify(options)}
window.token = accessToken
window.steps = []

const ask = async (path) => {
  const headers = { Authorization: "Bearer " + window.token, "cal-api-version": "2024-06-14", "x-cal-platform-embed": "true" }
  const { status } = await fetch(calUrl + "/v2" + path, { headers })
  window.steps.push(path + " " + status)
  return status
}

const replaceToken = async () => {
  // A test may hold a page here.
  await window.beforeRefresh?.()
  const headers = { Authorization: "Bearer " + window.token, "Content-Type": "application/json" }
  const answer = await fetch(refreshUrl, { method: "GET", headers })
  const { accessToken } = await answer.json()
  window.steps.push("refresh " + answer.status)
  if (!accessToken) throw new Error("no token")
  window.token = accessToken
}

const call = async (path, refusals) => {
  const status = await ask(path)
  if (!refusals.includes(status)) return status
  await replaceToken()
  return ask(path)
}

/** Shows how something ended; the first status that a person would be glad of is 200. */
const show = (name, work) =>
  work.then((status) => status === 200 ? "works" : "refused " + status, (error) => "failed: " + error.message)
    .then((text) => { document.querySelector("#" + name).textContent = text })

document.querySelector("button").onclick = () => show("later", call("/me", [498]))
show("mount", fetch(calUrl + "/v2/provider/" + clientId).then(() => call("/provider/" + clientId + "/access-token", [498, 401])))
`

export const html = (options: Options): string => `<!doctype html>
<html lang="en">
<title>Bookings</title>
<link rel="icon" href="data:,">
<p>Mount: <output id="mount"></output></p>
<p>Later: <output id="later"></output> <button>Load</button></p>
<script>${script(options)}</script>
</html>
`
