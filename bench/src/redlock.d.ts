/** The part of redlock 4 that is measured; it comes without types. */
declare module "redlock" {
  export interface Options {
    readonly retryCount?: number
    readonly retryDelay?: number
    readonly retryJitter?: number
  }
  export interface Lock {
    readonly unlock: () => PromiseLike<void>
  }
  export default class Redlock {
    constructor(clients: ReadonlyArray<unknown>, options?: Options)
    lock(resource: string, ttlMillis: number): PromiseLike<Lock>
  }
}
