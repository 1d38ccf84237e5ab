/** The options that several commands have, and how their texts are read. */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as Duration from "effect/Duration"

const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

const durationOf = (text: string): Duration.Duration => {
  const found = /^(\d+(?:\.\d+)?|\.\d+) ?(ms|s|m|h|d)?$/.exec(text.trim())
  if (found === null) {
    throw new Error(
      `"${text}" is no duration: 500ms, 30s, 5m, 2h and 1d are, and 30 is 30 seconds.`
    )
  }
  const unit = (found[2] ?? "s") as keyof typeof units
  return Duration.millis(Number(found[1]) * units[unit])
}

export const duration = (name: string): Options.Options<Duration.Duration> =>
  read(name, durationOf).pipe(Options.withPseudoName("duration"))

/** `1/5`: one permit of five. */
export const permits = (name: string) =>
  read(name, (text) => {
    const found = /^(\d{1,7})\/(\d{1,7})$/.exec(text.trim())
    if (found === null) throw new Error(`"${text}" is not permits/limit: 1/5 is one of five.`)
    return { permits: Number(found[1]), limit: Number(found[2]) }
  }).pipe(Options.withPseudoName("permits/limit"))

const read = <A>(name: string, of: (text: string) => A): Options.Options<A> =>
  Options.text(name).pipe(
    Options.mapTryCatch(of, (error) =>
      HelpDoc.p(`--${name}: ${error instanceof Error ? error.message : String(error)}`)
    )
  )

const many = (name: string, pseudo: string, description: string) =>
  Options.text(name).pipe(
    Options.withPseudoName(pseudo),
    Options.withDescription(description),
    Options.repeated
  )

const file = (name: string, description: string) =>
  Options.text(name).pipe(
    Options.withPseudoName("file"),
    Options.withDescription(description),
    Options.optional
  )

/** Where Redis is. */
export const connection = {
  url: Options.text("url").pipe(
    Options.withPseudoName("url"),
    Options.withDescription(
      "redis://user:password@host:port/database, rediss:// with TLS. Other users of this machine can see it: give a password in REDIS_URL. Default: REDIS_URL, or redis://127.0.0.1:6379."
    ),
    Options.optional
  ),
  prefix: Options.text("prefix").pipe(
    Options.withPseudoName("text"),
    Options.withDescription(
      "What comes before every key in Redis, as the programs' stores have it."
    ),
    Options.withDefault("")
  ),
  sentinels: many("sentinel", "host:port", "A Sentinel. Several can be given."),
  sentinelName: Options.text("sentinel-name").pipe(
    Options.withPseudoName("name"),
    Options.withDescription("The name of the group that the Sentinels watch."),
    Options.withDefault("mymaster")
  ),
  cluster: many("cluster", "host:port", "A node of a Cluster. Several can be given."),
  tlsCa: file("tls-ca", "The certificate of the authority that has signed the server's (PEM)."),
  tlsCert: file("tls-cert", "This client's certificate (PEM), with --tls-key."),
  tlsKey: file("tls-key", "This client's key (PEM).")
}

export const json = Options.boolean("json").pipe(
  Options.withDescription("One JSON object a line, for programs.")
)
