import { assert, describe, it } from "vitest"
import * as Misspelt from "../../src/Environment/Misspelt.js"
import * as Variables from "../../src/Environment/Variables.js"

describe("a variable that is not known", () => {
  it.each([
    ["CAL_TOKEN_API_KEYS", "CAL_TOKENS_API_KEYS"],
    ["CAL_TOKENS_API_KEY", "CAL_TOKENS_API_KEYS"],
    ["CAL_TOKENS_ALLOWED_ORIGIN", "CAL_TOKENS_ALLOWED_ORIGINS"],
    ["CAL_TOKENS_RETURN_URL", "CAL_TOKENS_RETURN_URLS"],
    ["CAL_TOKENS_ENCRYPTION_KEY", "CAL_TOKENS_ENCRYPTION_KEYS"],
    ["CAL_TOKENS_ENCRYPTION_KEY_FILE", "CAL_TOKENS_ENCRYPTION_KEYS_FILE"],
    ["CAL_OAUTH2_CLIENT_ID", "CAL_OAUTH_CLIENT_ID"],
    ["CAL_OAUTH_SCOPE", "CAL_OAUTH_SCOPES"],
    ["CAL_OAUTH_REDIRECT_URI", "CAL_OAUTH_REDIRECT_URL"],
    ["CAL_CLIENT_SECERT", "CAL_CLIENT_SECRET"],
    ["CAL_CLIENT_ID_FILE", "CAL_CLIENT_ID"],
    ["CAL_API_BASE_URL", "CAL_API_URL"]
  ])("%s is told with the one that is meant", (name, meant) => {
    assert.deepStrictEqual(Misspelt.warnings([name]), [`${name} is not known and has no effect: is ${meant} meant?`])
  })

  it("and near to none is told with where they are listed", () => {
    assert.deepStrictEqual(Misspelt.warnings(["CAL_TOKENS_FAVOURITE_COLOUR"]), [
      "CAL_TOKENS_FAVOURITE_COLOUR is not known and has no effect: `cal-tokens serve --help` lists those that are"
    ])
  })

  it("is told in the order of names, each in a line of its own", () => {
    const names = ["CAL_TOKENS_Z_Z", "PATH", "CAL_API_URLS", "CAL_TOKENS_A_A"]
    assert.deepStrictEqual(
      Misspelt.warnings(names).map((line) => line.split(" ")[0]),
      ["CAL_API_URLS", "CAL_TOKENS_A_A", "CAL_TOKENS_Z_Z"]
    )
  })

  it("may be somebody else's where it does not look like ours", () => {
    const others = [
      "PATH",
      "DATABASE_HOST",
      "CAL_COM_URL",
      "CALENDAR_API_KEY",
      "MY_CAL_TOKENS_KEY",
      "CAL_TOKENS",
      "cal_tokens_x"
    ]
    assert.deepStrictEqual(Misspelt.warnings(others), [])
  })
})

it("no variable that is read is told", () => {
  assert.deepStrictEqual(Misspelt.warnings(Object.values(Variables.all).flatMap(({ names }) => names)), [])
})
