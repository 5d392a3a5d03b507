/** Users' ids both ways, for whoever keeps UUIDs and gets ULIDs in answers. */
import { Option, Schema } from "effect"
import * as Token from "../Token.js"

const decode = Schema.decodeUnknownOption(Token.UserUlid)

/**
 * The ULID by which answers call a user with this UUID; `undefined` for what is neither a UUID nor a ULID.
 *
 * @since 0.1.0
 * @category conversions
 */
export const ulidFromUuid = (uuid: string): string | undefined => Option.getOrUndefined(decode(uuid))

/**
 * The UUID, in lower case, of a user whom answers call by this ULID; `undefined` for what is neither of them.
 *
 * @since 0.1.0
 * @category conversions
 */
export const uuidFromUlid = (ulid: string): string | undefined =>
  Option.getOrUndefined(Option.map(decode(ulid), Token.uuidFromUlid))
