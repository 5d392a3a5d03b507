import { describe, expect, it } from "@effect/vitest"
import type { Refreshed, ServiceError, UserHistory } from "../../src/Page/Answers.js"
import * as Play from "../../src/Page/Play.js"

const ada: Play.DemoUser = { userUlid: "01JDEM0000000000000000ADA0", name: "Ada", kind: "managed", calUserId: 1000 }
const ben: Play.DemoUser = { userUlid: "01JDEM0000000000000000BEN0", name: "Ben", kind: "managed", calUserId: 1001 }
const cem: Play.DemoUser = { userUlid: "01JDEM0000000000000000CEM0", name: "Cem", kind: "oauth2", calUserId: 1002 }
const everybody = [ada, ben, cem]

const refreshed: Refreshed = { refreshed: true, expiresAt: "2026-11-28T09:04:00.000Z" }
const error = (code: ServiceError["code"], retryAfter?: number) =>
  ({ code, message: `words of ${code}`, ...(retryAfter === undefined ? {} : { retryAfter }) }) as ServiceError
const answered: Play.Requests = { answered: 20, refreshes: 1, took: 240 }
const failed = (code: string, retryAfter?: number): Play.Requests => ({
  answered: 0,
  refreshes: 1,
  took: 9,
  failure: { code, error: `words of ${code}`, ...(retryAfter === undefined ? {} : { retryAfter }) }
})

type Answers = {
  readonly refresh?: ReadonlyArray<Refreshed | ServiceError>
  readonly reissue?: ReadonlyArray<Refreshed | ServiceError>
  readonly requests?: ReadonlyArray<Play.Requests>
  readonly entries?: ReadonlyArray<{ readonly at: string; readonly written: string; readonly event: object }>
}

const start = Date.parse("2026-11-28T09:02:00.000Z")

/** A stage on which time passes only by waiting, and what happens on it in order. */
const make = ({ entries = [], refresh = [], reissue = [], requests = [] }: Answers) => {
  let now = start
  const done: Array<string> = []
  const said: Array<string> = []
  const next = <A>(answers: ReadonlyArray<A>) => {
    const queue = [...answers]
    return () => {
      const [answer] = queue.splice(0, 1)
      if (answer === undefined) throw new Error(`nothing is left: ${done.join("; ")}`)
      return Promise.resolve(answer)
    }
  }
  const [nextRefresh, nextReissue, nextRequests] = [next(refresh), next(reissue), next(requests)]
  const note = (text: string) => void done.push(text)
  const stage: Play.Stage = {
    control: (path, body) => Promise.resolve(note(`${path}${body === undefined ? "" : ` ${JSON.stringify(body)}`}`)),
    requests: ({ name }, times) => (note(`${times} requests of ${name}`), nextRequests()),
    refresh: ({ name }) => (note(`refresh ${name}`), nextRefresh()),
    reissue: ({ name }) => (note(`reissue ${name}`), nextReissue()),
    history: () => Promise.resolve({ entries } as unknown as UserHistory),
    now: () => now,
    say: (text) => void said.push(text),
    wait: (until) => {
      note(`wait ${(until - now) / 1_000}`)
      now = until
      return Promise.resolve()
    }
  }
  return { done, said, stage }
}

const play = async (mishap: Play.Mishap, users: ReadonlyArray<Play.DemoUser>, answers: Answers) => {
  const { done, said, stage } = make(answers)
  const end = await Play.play(mishap, stage, users, everybody)
  return { done, end, said: said.join("\n") }
}

describe("an expired token", () => {
  it("is used by many at once, and one refresh answers them", async () => {
    const seen = await play("expire", [ada], { requests: [answered] })
    expect(seen).toMatchObject({ end: "kept", done: ["users/1000/expire", "20 requests of Ada"] })
    expect(seen.said).toMatch(/All 20 were answered within 240 ms, after one refresh.$/)
  })

  it("of somebody who consented is ended only when its refusal will be believed", async () => {
    const at = (seconds: number) => new Date(start - seconds * 1_000).toISOString()
    const young = await play("expire", [cem], {
      requests: [answered],
      entries: [{ at: at(4), written: "stored", event: { _tag: "Connected" } }]
    })
    expect(young.done).toStrictEqual(["wait 7", "users/1002/expire", "20 requests of Cem"])
    const refused = { _tag: "Attempt", trigger: "refused" }
    const lately = await play("expire", [cem], {
      requests: [answered],
      entries: [
        { at: at(12), written: "stored", event: { _tag: "Attempt", trigger: "ahead" } },
        { at: at(20), written: "stored", event: refused }
      ]
    })
    expect(lately.done[0]).toBe("wait 11")
    const old = await play("expire", [cem], {
      requests: [answered],
      entries: [{ at: at(31), written: "stored", event: refused }]
    })
    expect(old.done[0]).toBe("users/1002/expire")
  })

  it("waits where so many refreshes have just been", async () => {
    const seen = await play("expire", [ada], { requests: [failed("RefreshCoolingDown", 10), answered] })
    expect(seen).toMatchObject({
      end: "kept",
      done: ["users/1000/expire", "20 requests of Ada", "wait 10", "20 requests of Ada"]
    })
    expect(seen.said).toContain("20 of them were told to come back after 10 s")
  })

  it("is told of in the service's words where it goes otherwise", async () => {
    const seen = await play("expire", [ada], { requests: [failed("CalUnavailable", 3)] })
    expect(seen.end).toBe("odd")
    expect(seen.said).toMatch(/words of CalUnavailable$/)
  })
})

describe("a revoked token", () => {
  it("of a managed user is nobody's problem", async () => {
    const seen = await play("revoke", [ada], {
      refresh: [{ ...refreshed, refreshed: false, retryAfter: 7 }, error("RefreshCoolingDown", 2), refreshed]
    })
    expect(seen).toMatchObject({
      end: "kept",
      done: ["users/1000/revoke", "refresh Ada", "wait 7", "refresh Ada", "wait 2", "refresh Ada"]
    })
  })

  it("of somebody who consented has them consent again", async () => {
    const seen = await play("revoke", [cem], { refresh: [error("ReauthorizationRequired")] })
    expect(seen).toMatchObject({ end: "reconnect", done: ["users/1002/revoke", "refresh Cem"] })
    expect(seen.said).toMatch(/Cem has to consent again, and nobody else.$/)
  })

  it("is given up after some tries", async () => {
    const seen = await play("revoke", [cem], { refresh: Array.from({ length: 6 }, () => error("CalUnavailable", 1)) })
    expect(seen.end).toBe("odd")
  })
})

describe("a lost answer", () => {
  it.each([
    [ada, "refresh", answered, "kept"],
    [cem, "oauth2Refresh", failed("ReauthorizationRequired"), "reconnect"]
  ] as const)("of $name's", async (user, kind, requests, end) => {
    const seen = await play("lose", [user], { requests: [requests] })
    expect(seen.end).toBe(end)
    expect(seen.done).toStrictEqual([
      `faults ${JSON.stringify({ fault: "dropAfter", kind, calUserId: user.calUserId, times: 1, for: "30 seconds" })}`,
      `users/${user.calUserId}/expire`,
      `20 requests of ${user.name}`
    ])
  })
})

it("an odd answer is another one each time, and read all the same", async () => {
  const answers = new Set<string>()
  for (const user of [ada, cem, ada, cem]) {
    const seen = await play("change", [user], { refresh: [refreshed] })
    expect(seen.end).toBe("kept")
    answers.add(/"answer":"(\w+)"/.exec(seen.done.join())?.[1] ?? "")
  }
  expect(answers.size).toBe(4)
  expect((await play("change", [ada], { refresh: [error("CalProtocolError")] })).end).toBe("odd")
})

it("an answer that nobody can read is kept, until somebody else's trial shows that it was the only one", async () => {
  const seen = await play("garble", [ben], {
    refresh: [error("CalProtocolError"), error("RefreshCoolingDown", 20), refreshed],
    reissue: [error("CalProtocolError", 5), refreshed]
  })
  expect(seen.end).toBe("kept")
  expect(seen.done.slice(1)).toStrictEqual([
    "refresh Ben",
    "wait 30",
    "reissue Ada",
    "wait 5",
    "reissue Ada",
    "refresh Ben",
    "wait 20",
    "refresh Ben"
  ])
  expect(Play.scenes.garble.isFor("oauth2")).toBe(false)
})

describe("an outage", () => {
  it("of all is over by itself, and everybody is refreshed after it", async () => {
    const down = error("CalUnavailable")
    const seen = await play("down", everybody, {
      refresh: [down, down, { ...refreshed, refreshed: false }, refreshed, refreshed, refreshed]
    })
    expect(seen.end).toBe("kept")
    expect(seen.done[0]).toBe('faults {"fault":"refuseConnection","pathPrefix":"/v2/","for":30000}')
    expect(seen.done[4]).toBe("wait 30")
    expect(seen.said).toMatch(/2 refreshes were tried/)
    expect(seen.said).toMatch(/Ada, Ben and Cem were refreshed .* later. Nobody has to reconnect.$/)
  })

  it("of one concerns nobody else", async () => {
    const seen = await play("down", [ben], { refresh: [error("CalUnavailable"), error("ReauthorizationRequired")] })
    expect(seen.end).toBe("reconnect")
    expect(seen.done[0]).toMatch(/"calUserId":1001}$/)
  })
})
