/**
 * The product in one layer for tests of a program that uses it: over memory, against the simulator of Cal.com, on whatever
 * `Clock` there is (`TestClock` under `it.effect`). And the simulator on a port, by a promise, for tests of programs in which
 * there is no Effect. This is `cal-tokens/sandbox`.
 */
export * from "./Sandbox.js"
export { connectManaged, connectOAuth2, layerTest, type TestOptions } from "./Testing/Product.js"
export {
  type LocalPerson,
  type LocalSandbox,
  type LocalUser,
  type StartOptions,
  startSandbox
} from "./Testing/Local.js"
