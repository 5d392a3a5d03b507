/**
 * What there is to know of each failure, in one table: the HTTP status it is answered with, whose fault it is, what happened
 * and what to do. Statuses and descriptions of the HTTP API, codes of actions, levels of log lines and the table in `src/Http/README.md`
 * follow from it. A leaf, so that browsers can load it with the API.
 */

/** Whose fault a failure is, which says who can do something about it. */
export type Fault =
  /** The program that asked. */
  | "caller"
  /** The person whose calendar it is: they have to do something at Cal.com. */
  | "user"
  /** Cal.com, or the way to it. */
  | "cal"
  /** Whoever runs this: a setting, a key, a database. */
  | "operator"
  /** Nobody's: time heals it. */
  | "nobody"
  /** This package's: a bug. */
  | "us"

export interface Fact {
  /** The HTTP status it is answered with. */
  readonly status: number
  readonly fault: Fault
  readonly what: string
  readonly advice: string
}

export const facts = {
  InvalidInput: {
    status: 400,
    fault: "caller",
    what: "Something in the request is malformed; `error` names the field. Nothing was changed.",
    advice: "Fix the caller."
  },
  PayloadTooLarge: {
    status: 413,
    fault: "caller",
    what: "The request body is larger than 1 MiB. Its `code` is `InvalidInput`.",
    advice: "Fix the caller."
  },
  Unauthorized: {
    status: 401,
    fault: "caller",
    what: "The API key is missing, wrong or over, or a user session is over. In actions: your `authorize` failed.",
    advice: "Fix the caller; make a new session."
  },
  Forbidden: {
    status: 403,
    fault: "caller",
    what: "The API key lacks the scope or is limited to something else, or the user session is not for this. In actions: your `authorize` refused.",
    advice: "Fix the caller, or give its key the scope that `error` names."
  },
  NotFound: {
    status: 404,
    fault: "caller",
    what: "There is no such endpoint. Paths have one spelling.",
    advice: "Fix the caller; `/docs` shows all endpoints."
  },
  MethodNotAllowed: {
    status: 405,
    fault: "caller",
    what: "The endpoint exists, but not with this method.",
    advice: "Fix the caller; `Allow` names the methods."
  },
  TokensNotFound: {
    status: 404,
    fault: "caller",
    what: "This user never connected, or was disconnected.",
    advice: "Connect them."
  },
  NotManagedUser: {
    status: 409,
    fault: "caller",
    what: "The operation exists for managed users only, and this user is connected through OAuth2.",
    advice: "Fix the caller."
  },
  CalAccountInUse: {
    status: 409,
    fault: "caller",
    what: "That Cal.com account is connected to another of your users.",
    advice: "Disconnect it there first, or take it over with `replace`."
  },
  ReauthorizationRequired: {
    status: 409,
    fault: "user",
    what: "Cal.com refuses this user's refresh token for good.",
    advice:
      "Nothing on the server: the user reconnects. Many at once? Look for a restored backup, or for a second system that " +
      "refreshes the same users."
  },
  RefreshCoolingDown: {
    status: 429,
    fault: "nobody",
    what: "The last refreshes failed, or there were three in 30 s and the token is dead all the same.",
    advice: "Wait `retryAfter`; `error` names the last failure, which is the one to look at."
  },
  CalRateLimited: {
    status: 429,
    fault: "cal",
    what: "Cal.com's rate limit is reached.",
    advice: "Wait; if it comes back, look for what else uses the client."
  },
  RateLimited: {
    status: 429,
    fault: "caller",
    what: "Too many requests to this service from one API key, one user's sessions or one address.",
    advice: "Wait; look for a loop in that caller. If all callers share one address, see `CAL_TOKENS_TRUSTED_PROXIES`."
  },
  CalUnavailable: {
    status: 503,
    fault: "cal",
    what: "Cal.com cannot be reached, does not answer in time, or answers 5xx.",
    advice:
      "Wait. Valid tokens keep being served; nobody has to reconnect. A request that writes may have been carried out all " +
      "the same: look before you repeat it. Where no connection was made, `tried` in the log names the address and its setting."
  },
  CalRequestRejected: {
    status: 502,
    fault: "cal",
    what: "Cal.com answered 4xx; `status` and `error` say which.",
    advice:
      "It depends on the words: permission, wrong id. `missingScopes` names what the user has not allowed: add it to " +
      "`CAL_OAUTH_SCOPES` and have them connect again."
  },
  CalProtocolError: {
    status: 502,
    fault: "cal",
    what:
      "Cal.com's answer has an unknown shape. With \"Cal.com's answers changed\" in `error`, refreshes of this client have " +
      "stopped, so that no further user's token is spent for an answer that nobody can read.",
    advice:
      "Cal.com, or a proxy in between, changed: check `CAL_API_URL`, then look for a newer version and start it: it reads the " +
      "answers that were kept, and whoever's holds a pair goes on. Valid tokens keep being served."
  },
  CalClientMisconfigured: {
    status: 502,
    fault: "operator",
    what: "Cal.com refuses the client itself, so every user of it; or no such client is configured.",
    advice:
      "Check id, secret, URL and the client's approval at Cal.com. It is tried again every 30 s; nobody has to reconnect. It " +
      "also stands for many users who are refused at once; if Cal.com did end their access (a restored backup), one who " +
      "connects again shows that the client is fine."
  },
  StorageUnavailable: {
    status: 503,
    fault: "operator",
    what: "The database does not answer, or `error` says why it refuses.",
    advice:
      "Bring it back, and **keep these processes running** until it is: they may hold pairs that are not stored yet."
  },
  TokenUnreadable: {
    status: 500,
    fault: "operator",
    what:
      "The stored tokens of this user do not open with the configured keys. The log of the start and `/health/ready` (with " +
      "an API key) name the missing ones.",
    advice: "Put the missing key back into `CAL_TOKENS_ENCRYPTION_KEYS`; if it is lost, these users reconnect."
  },
  InternalError: {
    status: 500,
    fault: "us",
    what: "A fault of this service that nobody foresaw.",
    advice: "The log has it; open an issue without tokens."
  },
  ShuttingDown: {
    status: 503,
    fault: "nobody",
    what: "This process is stopping.",
    advice: "Ask another one."
  },
  StartFailed: {
    status: 503,
    fault: "operator",
    what: "In actions only: the layers could not be built, or the `layer` of yours lacks what `error` names.",
    advice: "The log says why; the next call tries again."
  }
} as const satisfies Record<string, Fact>

/** The name of a failure: its `_tag`, and its `code` wherever it is answered as JSON (a payload that is too large is `InvalidInput` there). */
export type Tag = keyof typeof facts

/** Those that the service itself answers over HTTP. */
export type HttpTag = Exclude<Tag, "StartFailed">

/** What a failure is called where it is answered as JSON. */
export type Code = Exclude<Tag, "PayloadTooLarge">

/** The level of the line that a failure has in the log: who has to look at it, and when. */
export type Level = "Info" | "Warning" | "Error"

const levels: Readonly<Record<Fault, Level>> = {
  caller: "Info",
  nobody: "Info",
  user: "Warning",
  cal: "Warning",
  operator: "Error",
  us: "Error"
}

export const levelOf = (tag: Tag): Level => levels[facts[tag].fault]
