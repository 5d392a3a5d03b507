/** `npm run docs`: writes the parts of the README that are made of the code. Runs in the project's directory. */
import * as Fs from "node:fs"
import { withParts } from "./Readme.js"

Fs.writeFileSync("README.md", withParts(Fs.readFileSync("README.md", "utf8")))
