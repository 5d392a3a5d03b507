/** Encryption keys for tests. */
import { createHash } from "node:crypto"
import { Redacted } from "effect"
import * as KeyRing from "../../src/KeyRing.js"

/** Another key for each number. */
export const keyOf = (id: string, n: number): string =>
  `${id}:${createHash("sha256").update(String(n)).digest("base64")}`

export const layerKeys = (keys = keyOf("k1", 1)) => KeyRing.layer(Redacted.make(keys))
