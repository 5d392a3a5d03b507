/** The nodes: how they start, crash, sleep and stop. */
import { Context, Effect, Exit, Scope } from "effect"
import { CalClient } from "../../src/CalClient.js"
import * as CalTokens from "../../src/CalTokens.js"
import * as TokenConfig from "../../src/TokenConfig.js"
import { TokenStorage } from "../../src/TokenStorage.js"
import * as Api from "./Api.js"
import type { Cal } from "./Cal.js"
import { Process } from "./Driver.js"
import * as Store from "./Store.js"
import type { Node, World } from "./World.js"

/** What a broken variant of the system replaces. */
export interface Variant {
  readonly config?: Partial<TokenConfig.Options> | undefined
  readonly storage?: ((storage: TokenStorage["Type"]) => TokenStorage["Type"]) | undefined
  /** The storage as one node speaks with it. */
  readonly storageOf?: ((node: Node, storage: TokenStorage["Type"]) => TokenStorage["Type"]) | undefined
  readonly client?:
    ((world: World, node: Node, client: typeof CalClient.Service) => typeof CalClient.Service) | undefined
  /** Default: yes. */
  readonly hasBothSecrets?: boolean | undefined
  /** The caller gave up. */
  readonly onInterrupted?: ((node: Node) => void) | undefined
}

export class Fleet {
  constructor(
    private readonly world: World,
    private readonly cal: Cal,
    private readonly storage: TokenStorage["Type"],
    private readonly config: TokenConfig.Options,
    private readonly variant: Variant
  ) {
    world.plan.nodes.forEach((_, index) => {
      const node: Node = {
        index,
        name: `node${index}`,
        process: undefined,
        tokens: undefined,
        close: Effect.void,
        api: undefined,
        hear: () => undefined,
        isStopping: false,
        incarnation: 0,
        hasWrongSecret: false,
        hasBothSecrets: this.variant.hasBothSecrets ?? true,
        fingerprint: () => "",
        isNewer: false,
        isNewerNext: false,
        attempts: new Map(),
        claims: new Map(),
        seen: new Map(),
        rejected: new Set(),
        clockError: 0,
        lastStorageFailure: 0,
        counts: new Map()
      }
      world.nodes.push(node)
      this.start(node)
    })
  }

  start(node: Node): void {
    if (node.process !== undefined) return
    const { world } = this
    const { nodes, seed } = world.plan
    node.incarnation++
    const process = new Process(
      world.driver,
      node.name,
      (seed * 31 + node.index * 7 + node.incarnation) | 0,
      nodes[node.index] ?? 0
    )
    node.process = process
    node.isStopping = false
    node.isNewer = node.isNewerNext
    node.hasWrongSecret =
      !world.healed &&
      world.plan.incidents.some(({ kind, ...it }) => kind === "wrongNode" && "node" in it && it.node === node.index)
    node.attempts = new Map()
    node.claims = new Map()
    node.seen = new Map()
    node.rejected = new Set()
    node.clockError = Math.abs(nodes[node.index] ?? 0)
    node.lastStorageFailure = 0
    const client = this.cal.connect(node)
    node.fingerprint = client.fingerprint
    const context = Context.empty().pipe(
      Context.add(
        TokenStorage,
        Store.connect(world, node, this.variant.storageOf?.(node, this.storage) ?? this.storage, client)
      ),
      Context.add(CalClient, this.variant.client?.(world, node, client) ?? client),
      Context.add(TokenConfig.TokenConfig, this.config)
    )
    const scope = Effect.runSync(Scope.make())
    const built = process.fork(Effect.provide(Scope.extend(CalTokens.make, scope), context))
    while (process.step());
    const exit = built.unsafePoll()
    if (exit === null || Exit.isFailure(exit)) throw new Error("a node did not start")
    process.keepFibers()
    node.tokens = exit.value
    node.api = Api.connect(world, node, this.cal, { tokens: exit.value, client, scope })
    node.close = Scope.close(scope, Exit.void)
    world.note(node.name, node.isNewer ? "starts, with a newer program" : "starts")
  }

  /** The end of a process, without a word; another one takes its place later. */
  down(node: Node, restartAfter: number): void {
    const { process } = node
    if (process === undefined) return
    process.kill()
    this.world.oracle.died(process)
    node.process = undefined
    node.tokens = undefined
    this.world.driver.after(this.world.healed ? 0 : restartAfter, undefined, () => this.start(node))
  }

  /** From its next start on, a node's program is a newer one. */
  release(node: Node, restartAfter: number): void {
    node.isNewerNext = true
    this.stop(node, restartAfter)
  }

  /** An orderly shutdown: it may lose nothing without saying so. */
  stop(node: Node, restartAfter: number): void {
    const { process } = node
    if (process === undefined || node.isStopping) return
    node.isStopping = true
    node.tokens = undefined
    this.world.note(node.name, "stops")
    process.fork(node.close, (exit) => {
      if (!process.isAlive) return
      this.world.note(node.name, `has stopped${Exit.isFailure(exit) ? " with an error" : ""}`)
      if (Exit.isSuccess(exit)) {
        for (const grant of this.world.oracle.heldBy(process)) {
          this.world.oracle.report("P3", `${node.name} stopped in good order without ${grant.name}`)
        }
      }
      this.world.driver.at(this.world.driver.now, undefined, () => {
        if (node.process === process) this.down(node, restartAfter)
      })
    })
  }
}
