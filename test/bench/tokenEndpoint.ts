/** A token endpoint to be asked, in a process of its own. Tells its address. Its argument: ms until it answers. */
import * as TokenServer from "./TokenServer.js"

void TokenServer.start(Number(process.argv[2])).then(({ url }) => console.log(url))
