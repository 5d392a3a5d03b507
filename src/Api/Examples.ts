/** What requests and answers look like, for the documentation. Made up; tests hold them to the schemas. */
import { exampleUlid } from "./Values.js"

interface Example {
  readonly request?: unknown
  readonly answer: unknown
}

const expiresAt = "2026-01-15T13:00:00.000Z"
const refreshed = { success: true, refreshed: true, expiresAt }
const connection = {
  kind: "managed",
  clientId: "<client>",
  status: "active",
  calUserId: 42,
  isExpired: false,
  accessTokenExpiresAt: expiresAt,
  refreshTokenExpiresAt: "2027-01-15T00:00:00.000Z",
  version: 7,
  updatedAt: "2026-01-15T12:00:00.000Z"
}
const userUlid = exampleUlid

/** By the names of endpoints. */
export const examples: Readonly<Record<string, Example>> = {
  refreshToken: { request: { userUlid, forceRefresh: true }, answer: refreshed },
  refreshManagedUserToken: { request: { userUlid }, answer: refreshed },
  ensureToken: { request: { userUlid }, answer: { success: true, expiresAt } },
  getConnection: { answer: { success: true, connection: { ...connection, isExpiringSoon: false } } },
  getHistory: {
    answer: {
      success: true,
      history: {
        status: "active",
        conclusion: "Connected; last refreshed at 2026-01-15T12:00:00.000Z.",
        advice: "Nothing to do.",
        entries: [
          {
            at: "2026-01-15T12:00:00.000Z",
            text: "Process 8c1f04aa sent refresh token 2c26b46b: granted. The pair with refresh token fcde2b2e is stored.",
            written: "stored",
            event: {
              _tag: "Attempt",
              process: "8c1f04aa",
              purpose: "refresh",
              trigger: "asked",
              took: 130,
              steps: [{ as: "own", token: "2c26b46b", answer: "granted" }],
              end: "granted",
              brought: "fcde2b2e"
            }
          }
        ]
      }
    }
  },
  putConnection: {
    request: {
      kind: "managed",
      calUserId: 42,
      accessToken: "<access token>",
      refreshToken: "<refresh token>",
      accessTokenExpiresAt: 1768482000000
    },
    answer: { success: true }
  },
  importConnections: {
    request: {
      connections: [
        {
          userUlid,
          kind: "managed",
          calUserId: 42,
          accessToken: "<access token>",
          refreshToken: "<refresh token>",
          accessTokenExpiresAt: 1768482000000
        }
      ]
    },
    answer: { success: true, results: [{ userUlid, outcome: "imported" }] }
  },
  deleteConnection: { answer: { success: true } },
  listConnections: { answer: { success: true, connections: [{ userUlid, ...connection }], cursor: userUlid } },
  getAccessToken: { answer: { success: true, accessToken: "<access token>", expiresAt } },
  createManagedUser: {
    request: { userUlid, email: "ada@example.com", name: "Ada", timeZone: "Europe/Paris" },
    answer: { success: true, calUserId: 42 }
  },
  authorizeUrl: {
    request: { userUlid, returnTo: "https://app.example.com/settings/calendar" },
    answer: {
      success: true,
      url: "https://app.cal.com/auth/oauth2/authorize?client_id=<client>&redirect_uri=<callback>&response_type=code&state=<state>",
      expiresAt,
      state: "<state>",
      redirectUri: "<callback>",
      scopes: ["<scope>"]
    }
  },
  exchangeCode: {
    request: { userUlid, code: "<code>", state: "<state>" },
    answer: { success: true, calUserId: 42 }
  },
  confirmCompletion: {
    request: { userUlid, completion: "<completion>" },
    answer: { success: true, calUserId: 42 }
  },
  createSession: {
    request: { userUlid, methods: ["GET", "POST"], paths: ["/bookings", "/slots"] },
    answer: { success: true, session: "<session>", expiresAt }
  },
  deleteSessions: { answer: { success: true } },
  refreshAtoms: { answer: { accessToken: "<access token>" } },
  streamEvents: {
    answer: [
      "id: 1768478400000-751-12",
      "event: refreshed",
      `data: {"userUlid":"${userUlid}","kind":"refreshed","at":"2026-01-15T12:00:00.000Z","version":7}`,
      "",
      ""
    ].join("\n")
  },
  getOverview: {
    answer: {
      success: true,
      overview: {
        at: "2026-01-15T12:00:20.000Z",
        process: { name: "8c1f04aa", startedAt: "2026-01-14T08:30:00.000Z", version: "0.1.0" },
        users: { active: 2113, reauthorizationRequired: 4, isEstimated: false },
        refreshes: {
          minutes: [
            {
              at: "2026-01-15T12:00:00.000Z",
              refreshed: { asked: 3, refused: 0, ahead: 31, reissue: 0 },
              failed: { asked: 1, refused: 0, ahead: 0, reissue: 0, lapsed: 0 },
              reauthorizationRequired: 1,
              reasons: [{ answer: "rejected", status: 400, count: 1 }],
              latency: { p50: 118, p95: 270, p99: 391 }
            }
          ],
          latency: { p50: 118, p95: 289, p99: 627, max: 1904 }
        },
        expiries: { overdue: 12, minutes: [{ at: "2026-01-15T12:00:00.000Z", users: 36 }] },
        budgets: [
          {
            kind: "managed",
            clientId: "<client>",
            limit: 500,
            remaining: 466,
            resetsAt: "2026-01-15T12:00:58.000Z",
            minutes: [{ at: "2026-01-15T12:00:00.000Z", remaining: 466 }]
          }
        ],
        circuits: [],
        sealedAnswers: 0,
        pairsHeld: 0
      }
    }
  },
  getMetrics: {
    answer: [
      "# HELP cal_tokens_changes_total Changes of users' tokens that this process stored.",
      "# TYPE cal_tokens_changes_total counter",
      'cal_tokens_changes_total{kind="refreshed"} 7',
      ""
    ].join("\n")
  },
  live: { answer: { status: "ok" } },
  ready: { answer: { status: "ok" } }
}
