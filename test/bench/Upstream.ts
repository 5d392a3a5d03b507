/** Whatever is asked, the same answer, as quickly as Node gives one: Cal.com's part, and that of a collector of traces. */
import * as Http from "node:http"

/** As long as a page of bookings. */
const body = JSON.stringify({
  status: "success",
  data: Array.from({ length: 10 }, (_, id) => ({ id, title: "a".padEnd(150, "b") }))
})
const headers = { "content-type": "application/json; charset=utf-8", "content-length": Buffer.byteLength(body) }

/** Tells its port. */
export const serve = (): void => {
  const server = Http.createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(200, headers).end(body))
  })
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    console.log(typeof address === "object" ? address?.port : "no port")
  })
}
