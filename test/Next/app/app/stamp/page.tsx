/** Rendered once, and again when it is revalidated. */
export const dynamic = "force-static"

export default function Stamp() {
  return <p id="stamp">{crypto.randomUUID()}</p>
}
