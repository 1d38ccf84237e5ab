/** What `test/support/started.ts` starts: it runs on Effect 3, and what is here knows neither. */

export interface Started {
  readonly close: () => Promise<void>
}

export interface Server {
  readonly host: string
  readonly port: number
  readonly url: string
  /** One command, on the tests' own connection. */
  readonly command: (...args: ReadonlyArray<string | number>) => Promise<unknown>
  readonly flush: () => Promise<void>
  /** All keys of database 0, sorted. */
  readonly dump: () => Promise<ReadonlyArray<string>>
  /** CLIENT LIST without the tests' own connections. */
  readonly clients: () => Promise<ReadonlyArray<Readonly<Record<string, string>>>>
  readonly stop: () => Promise<void>
  readonly cont: () => Promise<void>
}

export interface Address {
  readonly host: string
  readonly port: number
}

export interface Cluster {
  readonly addresses: ReadonlyArray<Address>
  readonly nodeOf: (key: string) => Promise<Server>
}

export interface Sentinel {
  readonly addresses: ReadonlyArray<Address>
  readonly name: string
  readonly master: () => Promise<Server>
  /** The master ends; so does this when the Sentinels agree on another one, which is given. */
  readonly failover: () => Promise<Server>
}

export interface Proxy extends Address {
  readonly url: string
  readonly cutAll: () => number
  readonly refuse: () => void
  readonly accept: () => void
  readonly holdReplies: () => void
  readonly releaseReplies: () => void
}

export interface Start {
  readonly server: (args?: ReadonlyArray<string>) => Promise<Server & Started>
  readonly cluster: () => Promise<Cluster & Started>
  readonly sentinel: () => Promise<Sentinel & Started>
  readonly proxy: (port: number) => Promise<Proxy & Started>
}
