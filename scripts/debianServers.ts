/**
 * Servers out of Debian's packages, without root and without a change to the system: apt gets a
 * configuration, lists, a cache and an (empty) list of installed packages of its own; what it downloads is
 * unpacked into a folder, with all libraries down to libc, and runs there with its own loader.
 */
import { spawnSync } from "node:child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { basename, join } from "node:path"

export interface DebianServer {
  readonly name: string
  readonly package: string
  readonly suites: ReadonlyArray<string>
}

const backports = ["bookworm", "bookworm-backports"]

export const debianServers: ReadonlyArray<DebianServer> = [
  { name: "valkey-backports", package: "valkey-server", suites: backports },
  { name: "redis-trixie", package: "redis-server", suites: ["trixie"] },
  { name: "valkey-trixie", package: "valkey-server", suites: ["trixie"] },
  { name: "redis-sid", package: "redis-server", suites: ["sid"] },
  { name: "valkey-sid", package: "valkey-server", suites: ["sid"] },
  { name: "redict-sid", package: "redict-server", suites: ["sid"] }
]

/** What a server's folder has for apt and for dpkg. */
const state = "apt"
const root = "root"
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

/**
 * A command that starts the server, out of `cache`, or downloaded into it. It can be given any arguments,
 * and signals reach the server. Throws, with a reason, where there is none to be had.
 */
export const fetchServer = (server: DebianServer, cache: string): string => {
  const folder = join(cache, server.name)
  const command = join(folder, server.package)
  if (existsSync(command)) return command
  rmSync(folder, { recursive: true, force: true })
  try {
    const debs = download(server, folder)
    for (const deb of debs) run("dpkg", ["-x", deb, join(folder, root)])
    writeCommand(folder, server.package, command)
    rmSync(join(folder, state), { recursive: true })
    return command
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}

const run = (
  command: string,
  args: ReadonlyArray<string>,
  environment: NodeJS.ProcessEnv = {}
): string => {
  const { error, status, stderr, stdout } = spawnSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C", ...environment }
  })
  if (error === undefined && status === 0) return stdout
  const why = error?.message ?? stderr.trim().split("\n").at(-1)
  throw new Error(`${command} ${args[0]}: ${why}`)
}

/** Where this system's own packages come from, or what DEBIAN_MIRROR says. */
const mirror = (): string => {
  if (process.env.DEBIAN_MIRROR) return process.env.DEBIAN_MIRROR
  const targets = run("apt-get", ["indextargets", "--format", "$(REPO_URI)"])
  const found = targets.split("\n").find((uri) => /\/debian\/?$/.test(uri))
  if (found !== undefined) return found
  throw new Error("apt has no mirror of Debian here: set DEBIAN_MIRROR to the address of one")
}

const download = ({ package: name, suites }: DebianServer, folder: string): Array<string> => {
  const apt = join(folder, state)
  const archives = join(apt, "cache/archives")
  for (const directory of ["lists/partial", "cache/archives/partial", "etc/parts", "log"]) {
    mkdirSync(join(apt, directory), { recursive: true })
  }
  const site = mirror()
  const sources = suites.map((suite) => `deb [signed-by=${keyring}] ${site} ${suite} main\n`)
  writeFileSync(join(apt, "etc/sources.list"), sources.join(""))
  // nothing is installed: so everything that the server needs is downloaded
  writeFileSync(join(apt, "status"), "")
  const config = join(apt, "apt.conf")
  writeFileSync(config, configOf(apt))
  const environment = { APT_CONFIG: config }
  run("apt-get", ["update", "-qq"], environment)
  const options = ["--download-only", "--no-install-recommends", "-qq", "-y"]
  run("apt-get", ["install", ...options, name], environment)
  return readdirSync(archives)
    .filter((file) => file.endsWith(".deb"))
    .map((file) => join(archives, file))
}

/** No other file of configuration is read after this one, and no hook of the system's runs. */
const configOf = (apt: string): string => {
  // a proxy, and the like
  const network = run("apt-config", ["dump"])
    .split("\n")
    .filter((line) => /^Acquire::https?::/.test(line))
  return [
    ...network,
    `Dir "${apt}/";`,
    `Dir::State "";`,
    `Dir::State::status "status";`,
    `Dir::Cache "cache";`,
    `Dir::Etc "etc";`,
    `Dir::Etc::parts "parts";`,
    `Dir::Etc::sourceparts "-";`,
    `Dir::Log "log";`,
    `Acquire::Languages "none";`,
    // a mirror that was frozen some time ago will do; signatures are checked all the same
    `Acquire::Check-Valid-Until "false";`,
    // its own user could not write here
    ...(process.getuid?.() === 0 ? [`APT::Sandbox::User "root";`] : []),
    ""
  ].join("\n")
}

/** A script that becomes the server: its process, with its pid. */
const writeCommand = (folder: string, name: string, command: string): void => {
  const files = readdirSync(join(folder, root), { recursive: true, encoding: "utf8" })
  const loader = files.find((file) =>
    /\/[a-z0-9_]+-linux-gnu\w*\/ld-linux[^/]*\.so\.\d+$/.test(file)
  )
  const binary = files.find((file) => file.endsWith(`usr/bin/${name}`))
  if (loader === undefined || binary === undefined) {
    throw new Error(`the packages have no ${loader === undefined ? "loader" : name}`)
  }
  const architecture = basename(join(loader, ".."))
  const libraries = ["lib", "usr/lib"].map((lib) => join(folder, root, lib, architecture))
  const quoted = [
    join(folder, root, loader),
    "--argv0",
    name,
    "--library-path",
    libraries.join(":"),
    join(folder, root, binary)
  ].map((word) => `'${word.replaceAll("'", `'\\''`)}'`)
  writeFileSync(command, `#!/bin/sh\nexec ${quoted.join(" ")} "$@"\n`)
  chmodSync(command, 0o755)
}
