/** Makes a failing plan smaller while it still fails in the same way. */
import type { Plan } from "./Plan.js"

const without = <A>(values: ReadonlyArray<A>, index: number): ReadonlyArray<A> =>
  values.filter((_, other) => other !== index)

/** Simpler plans, the boldest first. */
const candidates = function* (plan: Plan): Generator<Plan> {
  if (plan.wire === "http") yield { ...plan, wire: "short" }
  const half = Math.ceil(plan.callers.length / 2)
  if (half > 1) {
    yield { ...plan, callers: plan.callers.slice(0, half) }
    yield { ...plan, callers: plan.callers.slice(half) }
  }
  for (let i = plan.incidents.length - 1; i >= 0; i--) yield { ...plan, incidents: without(plan.incidents, i) }
  for (let i = plan.callers.length - 1; i >= 0; i--) yield { ...plan, callers: without(plan.callers, i) }
  const lastNode = plan.nodes.length - 1
  if (lastNode > 0) {
    const move = <A extends { readonly node: number }>(it: A): A => (it.node === lastNode ? { ...it, node: 0 } : it)
    yield {
      ...plan,
      nodes: plan.nodes.slice(0, lastNode),
      callers: plan.callers.map(move),
      incidents: plan.incidents.map((incident) => ("node" in incident ? move(incident) : incident))
    }
  }
  const lastUser = plan.users.length - 1
  const isUsed =
    plan.callers.some(({ user }) => user === lastUser) ||
    plan.incidents.some((incident) => "user" in incident && incident.user === lastUser)
  if (lastUser > 0 && !isUsed) yield { ...plan, users: plan.users.slice(0, lastUser) }
  for (let i = 0; i < plan.callers.length; i++) {
    const caller = plan.callers[i]
    if (caller?.deadline === undefined) continue
    const patient = { ...caller, deadline: undefined }
    yield { ...plan, callers: plan.callers.map((other, index) => (index === i ? patient : other)) }
  }
  for (let i = 0; i < plan.nodes.length; i++) {
    if (plan.nodes[i] !== 0) yield { ...plan, nodes: plan.nodes.map((skew, index) => (index === i ? 0 : skew)) }
  }
  if (plan.elsewhere.length > 0) yield { ...plan, elsewhere: [] }
  if (plan.raceWindow > 0) yield { ...plan, raceWindow: 0 }
  if (plan.notices.lost < 1) yield { ...plan, notices: { lost: 1, latency: 0 } }
  if (plan.shuffles) yield { ...plan, shuffles: false }
  if (plan.yieldAfter < 2048) yield { ...plan, yieldAfter: 2048 }
  if (plan.latency.storage > 2 || plan.latency.cal > 5) yield { ...plan, latency: { storage: 2, cal: 5 } }
}

/** `fails` runs a plan; at most `tries` times. */
export const shrink = (plan: Plan, fails: (plan: Plan) => boolean, tries = 500): Plan => {
  let left = tries
  let smallest = plan
  for (;;) {
    let smaller: Plan | undefined
    for (const candidate of candidates(smallest)) {
      if (--left < 0) return smallest
      if (fails(candidate)) {
        smaller = candidate
        break
      }
    }
    if (smaller === undefined) return smallest
    smallest = smaller
  }
}
