/**
 * What Cal.com itself knows of each refresh token's end: the truth that nobody in the fleet sees. It knows nothing of histories,
 * nor of how they are explained.
 */
import type { Grant } from "./Oracle.js"

/** How a refresh token ended. */
export type End =
  /** One of the fleet spent it, or another one of the same grant; `brought` is what it was answered. */
  | { readonly by: "fleet"; readonly at: number; readonly brought: Grant }
  | { readonly by: "otherSystem" | "person" | "time"; readonly at: number }

/** Why the fleet has no refresh token of a user any more that works. */
export type Truth = "otherSystem" | "person" | "answerLost" | "nodeDied" | "tooOld" | "accountDeleted" | "deadOnArrival"

export class Ledger {
  private readonly ends = new Map<string, End>()

  /** By the token's hash. The first end counts. */
  ended(hash: string, end: End): void {
    if (!this.ends.has(hash)) this.ends.set(hash, end)
  }

  /** `handedInAt`: when somebody handed in the token that the row has, if that is how it came. */
  truth(hash: string, hasAccount: boolean, handedInAt: number | undefined): Truth | undefined {
    const end = this.ends.get(hash)
    if (handedInAt !== undefined && end !== undefined && end.at <= handedInAt) return "deadOnArrival"
    if (!hasAccount) return "accountDeleted"
    switch (end?.by) {
      case undefined:
        return undefined
      case "time":
        return "tooOld"
      case "otherSystem":
      case "person":
        return end.by
      case "fleet":
        return end.brought.state !== "lost" ? undefined : end.brought.why.includes(" died ") ? "nodeDied" : "answerLost"
    }
  }
}
