/** Rendered once, and again when it is revalidated. */
export default async function Stamp() {
  "use cache"
  return <p id="stamp">{await Promise.resolve(crypto.randomUUID())}</p>
}
