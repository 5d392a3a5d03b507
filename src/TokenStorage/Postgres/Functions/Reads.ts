/** What is read of the rows. */
import { lookupMillis } from "./Beside.js"
import * as Parts from "./Parts.js"

const find: Parts.Definition = {
  name: "find_1",
  parameters: [["user", "text"]],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query select ${Parts.storedColumns("c")} from cal_tokens.connection c where c.user_ulid = p_user;`
}

/** Of several users, those who have the token now come first, and then the later pair. */
const findByAccessToken: Parts.Definition = {
  name: "find_by_access_token_1",
  parameters: [
    ["hash", "text"],
    ["now", "bigint"]
  ],
  returns: "table (user_ulid text, superseded_at float8)",
  declare: [["v_now", "bigint"]],
  body: `
  v_now := ${Parts.now};
  return query
    select l.user_ulid, l.superseded_at::float8 from cal_tokens.access_token_lookup l
    where l.hash = p_hash and (l.superseded_at is null or l.superseded_at + ${lookupMillis} > v_now)
    order by l.superseded_at desc nulls first, l.version desc limit 1;`
}

/** A page after a user, with a condition that an index may serve. */
const page = (condition: string) => `
    return query select ${Parts.storedColumns("c")} from cal_tokens.connection c
    where ${condition} and c.user_ulid > coalesce(p_after, '') order by c.user_ulid limit p_limit;`

const list: Parts.Definition = {
  name: "list_1",
  parameters: [
    ["status", "text"],
    ["after", "text"],
    ["limit", "integer"]
  ],
  returns: `table (${Parts.storedFields})`,
  body: `
  if p_status = 'Active' then ${page("c.status = 'active'")}
  elsif p_status is null then ${page("true")}
  else ${page("c.status <> 'active'")}
  end if;`
}

export const definitions: ReadonlyArray<Parts.Definition> = [find, findByAccessToken, list]
