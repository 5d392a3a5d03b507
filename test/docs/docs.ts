/** `npm run docs`: writes the parts of the documents that are made of the code. Runs in the project's directory. */
import * as Fs from "node:fs"
import * as Dashboard from "./Dashboard.js"
import * as Llms from "./Llms.js"
import { documents, withParts } from "./Readme.js"

for (const document of Object.keys(documents)) {
  Fs.writeFileSync(document, withParts(document, Fs.readFileSync(document, "utf8")))
}
Fs.writeFileSync(Dashboard.file, Dashboard.text())
Fs.writeFileSync(Llms.file, Llms.text())
