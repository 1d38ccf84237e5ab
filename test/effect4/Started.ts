/** What `test/support/started.ts` starts: it runs on Effect 3, and what is here knows neither. */

export interface Started {
  readonly close: () => Promise<void>
}

export interface Server {
  readonly port: number
  readonly url: string
  /** One command, on the tests' own connection. */
  readonly command: (...args: ReadonlyArray<string | number>) => Promise<unknown>
  /** CLIENT LIST without the tests' own connections. */
  readonly clients: () => Promise<ReadonlyArray<Readonly<Record<string, string>>>>
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

export interface Proxy {
  readonly url: string
  readonly cutAll: () => number
}

export interface Start {
  readonly server: (args?: ReadonlyArray<string>) => Promise<Server & Started>
  readonly cluster: () => Promise<Cluster & Started>
  readonly sentinel: () => Promise<Sentinel & Started>
  readonly proxy: (port: number) => Promise<Proxy & Started>
}
