/** What `npm run page` makes of `src/Page`: texts. */
declare module "#page" {
  export const html: string
  export const script: string
  export const style: string
  export const icon: string
}
