/** Requests as they are written, and answers as they come, over one socket. */
import * as Net from "node:net"
import { keys } from "./HttpFakes.js"

export interface Request {
  readonly method: string
  readonly target: string
  readonly body: string | undefined
  /** Instead of {@link keys.all}. */
  readonly key?: string
  readonly headers?: Readonly<Record<string, string>>
}

export interface Answer {
  readonly status: number
  readonly text: string
}

const write = ({ body, headers = {}, key = keys.all, method, target }: Request) =>
  [
    `${method} ${target} HTTP/1.1`,
    "Host: x",
    `Authorization: Bearer ${key}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ...(body === undefined
      ? []
      : ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body, "utf8")}`]),
    "",
    body ?? ""
  ].join("\r\n")

/** Of all chunks, with what is written about them; infinite while they are not all there. */
const lengthOfChunks = (text: string): number => {
  for (let at = 0; ;) {
    const [line, size = ""] = /^([0-9a-f]+)\r\n/i.exec(text.slice(at)) ?? []
    if (line === undefined) return Infinity
    at += line.length + parseInt(size, 16) + 2
    if (parseInt(size, 16) === 0) return at
  }
}

/** Sends requests in one breath, and takes their answers apart. */
export const converse = (port: number, requests: ReadonlyArray<Request>) =>
  new Promise<ReadonlyArray<Answer>>((resolve, reject) => {
    const socket = Net.connect(port, "127.0.0.1")
    const answers: Array<Answer> = []
    let rest = ""
    const done = () => {
      socket.destroy()
      resolve(answers)
    }
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      rest += chunk
      for (;;) {
        const end = rest.indexOf("\r\n\r\n")
        if (end < 0) return
        const head = rest.slice(0, end)
        const chunks = /\r\ntransfer-encoding: chunked/i.test(head) ? lengthOfChunks(rest.slice(end + 4)) : 0
        const told = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? chunks)
        const length = requests[answers.length]?.method === "HEAD" ? 0 : told
        if (rest.length < end + 4 + length) return
        answers.push({ status: Number(head.slice(9, 12)), text: rest.slice(0, end + 4 + length) })
        rest = rest.slice(end + 4 + length)
        if (answers.length === requests.length) return done()
      }
    })
    socket.on("error", reject)
    socket.on("close", done)
    socket.write(requests.map(write).join(""))
  })
