/**
 * The demo as a newcomer plays it: within a minute each of its five mishaps has ended as it says, and nobody is
 * locked out who need not be.
 */
import { assert, it } from "vitest"
import * as PageWorld from "./PageWorld.js"
import { says } from "./PageWorld.js"

const minute = 60_000

PageWorld.inChromium("the demo", (world) => {
  it("shows each promise kept, within a minute of its start", async () => {
    const demo = await world().acquire(PageWorld.demo())
    const began = performance.now()
    const took = () => Math.round(performance.now() - began)
    const person = await world().person()
    const page = await person.newPage()
    await page.goto(demo.url)
    await says(page, "Everybody's token is kept.")
    const times: Array<readonly [string, number]> = [["open", took()]]

    /** Begins it; `ended` goes on while others begin. */
    const play = async (title: string, whom: string, end: string) => {
      await page.getByRole("radio", { name: new RegExp(`^${whom}`) }).check()
      await page.getByRole("button", { name: title, exact: true }).click()
      const story = page.locator(".story", { hasText: `${title}: ${whom}` })
      await story.waitFor()
      const ended = story
        .getByText(end, { exact: true })
        .waitFor({ timeout: 2 * minute })
        .then(() => times.push([title, took()]))
      return { ended }
    }
    // Each to somebody else, so that none waits for another; what takes longest first.
    const down = await play("Cal.com is down for 30 s", "Ben", "Promise kept")
    const expired = await play("Expire the token", "Ada", "Promise kept")
    const revoked = await play("Revoke at Cal.com", "Cem", "Has to reconnect")
    await revoked.ended
    await says(page, "1 person has to reconnect.")
    await page.getByRole("button", { name: "Consent again" }).click()
    await says(page, "Cem is connected again, with new tokens.")
    await (
      await play("Cal.com changes its answers", "Cem", "Promise kept")
    ).ended
    await expired.ended
    await (
      await play("Lose the next answer", "Ada", "Promise kept")
    ).ended
    await down.ended
    assert.isBelow(took(), minute, JSON.stringify(times))
    console.log(`after so many ms each had ended: ${times.map((time) => time.join(" ")).join(", ")}`)

    // That some refreshes failed a moment ago is told, and that it cost nobody the connection.
    const figure = (name: string) => page.locator(".figure", { hasText: name }).locator(".figure-value")
    await figure("Have to reconnect").filter({ hasText: /^0$/ }).waitFor()
    await figure("Connected").filter({ hasText: /^3$/ }).waitFor()
    assert.strictEqual(await page.getByText("Look closer").count(), 0)
    const { json } = await demo.ask("GET", "/api/cal/connections?status=reauthorizationRequired")
    assert.deepStrictEqual(json["connections"], [])
    assert.deepStrictEqual([person.complaints, person.strays()], [[], []])
  })
})
