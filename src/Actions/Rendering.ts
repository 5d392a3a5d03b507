/**
 * Next while it renders a page: what was rendered must not become stale by being rendered, so `revalidatePath` and
 * `revalidateTag` throw there. Nothing says beforehand where one is, and the error has neither a class nor a code.
 */

/** Next 13 to 15: `Route /a used "revalidatePath /b" during render`; 16: `Route "/a": … can't be called during render`. */
const words = /^Route\b[^]*\bduring render\b/

/** Whether this is how Next refuses to revalidate something while it renders. */
export const refuses = (error: unknown): boolean => error instanceof Error && words.test(error.message)
