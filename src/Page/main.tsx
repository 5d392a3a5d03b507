import { render } from "preact"
import "./page.css"
import { App } from "./App.js"
import "./people.css"

const place = document.getElementById("app")
if (place !== null) render(<App />, place)
