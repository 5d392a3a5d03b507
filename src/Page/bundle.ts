/**
 * The page as four texts, which is what `npm run page` makes of it: a module can be found from wherever the program runs, a
 * file beside it cannot once somebody bundles it.
 */
export { default as script } from "../../dist/page/app.js"
export { default as style } from "../../dist/page/app.css"
export { default as icon } from "./icon.svg"
export { default as html } from "./page.html"
