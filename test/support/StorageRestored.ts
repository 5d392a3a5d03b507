/** A storage in memory that goes back in time, as a restored backup does. */
import type { TokenStorage } from "../../src/TokenStorage.js"
import * as StorageMemory from "../../src/TokenStorage/Memory.js"

/** `restored`: what is there once `restore` was called, to be filled before. */
export const make = () => {
  const [before, restored] = [StorageMemory.make(), StorageMemory.make()]
  let current = before
  const storage: typeof TokenStorage.Service = {
    ...before,
    find: (userUlid) => current.find(userUlid),
    claim: (request) => current.claim(request),
    spend: (request) => current.spend(request),
    commit: (request) => current.commit(request),
    fail: (request) => current.fail(request),
    connect: (request) => current.connect(request),
    history: (userUlid) => current.history(userUlid)
  }
  const restore = () => {
    current = restored
  }
  return { storage, restored, restore }
}
