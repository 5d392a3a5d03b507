/** Encryption keys for tests. */
import { Redacted } from "effect"
import * as Cipher from "../../src/KeyRing.js"

export const keyOf = (id: string, byte: number): string => `${id}:${Buffer.alloc(32, byte).toString("base64")}`

export const layerCipher = (keys = keyOf("k1", 1)) => Cipher.layer(Redacted.make(keys))
