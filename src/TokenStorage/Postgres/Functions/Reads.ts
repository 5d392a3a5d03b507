/** What is read of the rows. */
import { supersededLookup } from "../../../TokenStorage.js"
import { lookupMillis } from "./Beside.js"
import * as Parts from "./Parts.js"

const find: Parts.Definition = {
  name: "find_1",
  parameters: [["user", "text"]],
  returns: `table (${Parts.storedFields})`,
  body: `
  return query select ${Parts.storedColumns("c")} from cal_tokens.connection c where c.user_ulid = p_user;`
}

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
    select l.user_ulid, case when c.access_hash <> l.hash then l.superseded_at::float8 end
    from cal_tokens.access_token_lookup l join cal_tokens.connection c on c.user_ulid = l.user_ulid
    where l.hash = p_hash and (c.access_hash = l.hash or (
      l.superseded_at + ${lookupMillis} > v_now
      and (select count(*) from cal_tokens.access_token_lookup o where o.user_ulid = l.user_ulid
        and o.superseded_at is not null and o.version > l.version) < ${supersededLookup.tokens}));`
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
