/** Code as a browser gets it: bundled without any module of Node, and run where there is nothing of Node. */
import * as Vm from "node:vm"
import { setTimeout } from "node:timers"
import { build } from "esbuild"

/** Fails if anything in it asks for a module of Node. */
export const bundle = async (
  entry: string
): Promise<{ readonly text: string; readonly inputs: ReadonlyArray<string> }> => {
  const { metafile, outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    platform: "browser",
    format: "iife",
    minify: true,
    metafile: true,
    write: false,
    logLevel: "silent"
  })
  return { text: outputFiles[0]?.text ?? "", inputs: Object.keys(metafile.inputs) }
}

/** What browsers and Node have in common. */
const globals = {
  AbortController,
  AbortSignal,
  Blob,
  FormData,
  Headers,
  ReadableStream,
  Request,
  Response,
  TextDecoder,
  TextEncoder,
  URL,
  URLSearchParams,
  clearTimeout,
  performance,
  queueMicrotask,
  setTimeout
}

/** The first line that it writes to the console, or what it fails with. */
export const run = (text: string): Promise<ReadonlyArray<string>> =>
  new Promise((resolve, reject) => {
    const console = { log: (...words: ReadonlyArray<unknown>) => resolve(words.map(String)), error: reject }
    try {
      Vm.runInNewContext(text, { ...globals, console })
    } catch (error) {
      reject(error instanceof Error ? error : new Error(String(error)))
    }
  })
