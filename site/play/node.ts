/** What the library takes of Node.js, for a browser: as much of it as the store in memory needs. */

/** There is one async context here. */
export class AsyncResource {
  runInAsyncScope<This, Args extends ReadonlyArray<unknown>, A>(
    run: (this: This, ...args: Args) => A,
    that: This,
    ...args: Args
  ): A {
    return run.apply(that, args as never)
  }
}

/** (Node.js warns about many listeners of one signal, and a browser does not.) */
export const setMaxListeners = (): void => {}

class Bytes extends Uint8Array<ArrayBuffer> {
  override toString(_: "base64url" = "base64url", from = 0, to = this.length): string {
    return btoa(String.fromCharCode(...this.subarray(from, to)))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "")
  }
}

export const Buffer = { alloc: (length: number): Bytes => new Bytes(new ArrayBuffer(length)) }

export const randomFillSync = (bytes: Bytes): Bytes => crypto.getRandomValues(bytes)
export const randomBytes = (length: number): Bytes => randomFillSync(Buffer.alloc(length))

/** Names of leases for people who look at them, and checks of handles: nobody does that here. */
export const createHash = (): never => {
  throw new Error("there is no createHash in a browser")
}
