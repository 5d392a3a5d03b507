/** Somebody in front of a browser, on the simulator's page of consent. */

/** They allow the access on the page as it is shown. Where their browser is sent, with `code` and `state`. */
export const allow = async (page: URL): Promise<URL> => {
  const html = await (await fetch(page)).text()
  const form = new URLSearchParams({ decision: "allow", name: "", email: "" })
  for (const [, name = "", value = ""] of [
    ...html.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)">/g),
    ...html.matchAll(/<input type="radio" name="(user)" value="([^"]*)" checked>/g)
  ]) {
    form.set(
      name,
      value.replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
    )
  }
  const allowed = await fetch(new URL("authorize", page), { method: "POST", body: form, redirect: "manual" })
  return new URL(allowed.headers.get("location") ?? "")
}
