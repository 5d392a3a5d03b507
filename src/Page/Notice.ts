/** What was just done, told on the page that one is led to then. */
import * as Store from "./Store.js"

const notice = Store.make<string | undefined>(undefined)

export const useNotice = (): string | undefined => Store.useStore(notice)

export const tell = (text: string): void => notice.set(text)

export const forget = (): void => notice.set(undefined)
