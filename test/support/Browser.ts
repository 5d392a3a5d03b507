/** Requests as a browser makes them, with headers that other clients do not let anybody choose. */
import * as Http from "node:http"

export interface Request {
  readonly method?: string
  readonly path: string
  /** `undefined`: without it, whatever a browser would send. */
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly body?: string
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Each as it was set. */
  readonly cookies: ReadonlyArray<string>
  readonly bytes: Buffer
  readonly body: string
}

export const ask = (port: number, { body, headers = {}, method = "GET", path }: Request): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
    const request = Http.request({ port, path, method, agent: false, headers: sent }, (response) => {
      const chunks: Array<Buffer> = []
      const answer = (bytes: Buffer) =>
        resolve({
          status: response.statusCode ?? 0,
          headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
          cookies: response.headers["set-cookie"] ?? [],
          bytes,
          body: bytes.toString()
        })
      // One that does not end by itself is looked at no further.
      if (response.headers["content-type"] === "text/event-stream") {
        response.destroy()
        return answer(Buffer.alloc(0))
      }
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("end", () => answer(Buffer.concat(chunks)))
      response.on("error", reject)
    })
    request.on("error", reject)
    request.end(body)
  })
