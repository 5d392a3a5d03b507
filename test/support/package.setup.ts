/** Packs the package once before the tests of it, as npm publishes it: each of them wants the same, and it takes a while. */
import type { TestProject } from "vitest/node"
import { type Packed, pack, remove } from "../package/Project.js"

declare module "vitest" {
  interface ProvidedContext {
    readonly packed: Packed
  }
}

export default async function setup(project: TestProject): Promise<() => void> {
  project.provide("packed", await pack())
  return remove
}
