/** `npm run docs`: writes the parts of the README that are made of the code. Runs in the project's directory. */
import * as Fs from "node:fs"
import { withTable } from "./Settings.js"

Fs.writeFileSync("README.md", withTable(Fs.readFileSync("README.md", "utf8")))
