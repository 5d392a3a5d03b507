/** Encryption keys for tests. */
import { Redacted } from "effect"
import * as KeyRing from "../../src/KeyRing.js"

export const keyOf = (id: string, byte: number): string => `${id}:${Buffer.alloc(32, byte).toString("base64")}`

export const layerKeys = (keys = keyOf("k1", 1)) => KeyRing.layer(Redacted.make(keys))
