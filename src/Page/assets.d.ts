/** Files that the bundler takes as texts, and styles that it gathers. */
declare module "*.css"
declare module "*.html" {
  const text: string
  export default text
}
declare module "*.svg" {
  const text: string
  export default text
}
declare module "*/app.js" {
  const text: string
  export default text
}
declare module "*/app.css" {
  const text: string
  export default text
}
