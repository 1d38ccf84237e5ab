/** What each room of the library may know of the others; see docs/architecture.md. */
import { describe, expect, it } from "vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const source = fileURLToPath(new URL("../../src/", import.meta.url))

const files: ReadonlyArray<string> = Fs.readdirSync(source, { recursive: true })
  .map((name) => String(name).replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".ts"))

/** Without comments: examples import as well. */
const code = (file: string): string =>
  Fs.readFileSync(Path.join(source, file), "utf8").replace(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, "")

interface Import {
  /** A package, or a file of ours. */
  readonly of: string
  readonly isType: boolean
}

const importsOf = (file: string): ReadonlyArray<Import> =>
  [...code(file).matchAll(/^(import|export)\s(type\s)?[^"';]*?from\s*"([^"]+)"/gm)].map(
    ([, , type, of = ""]) => ({
      of: of.startsWith(".") ? Path.posix.join(Path.posix.dirname(file), of) : of,
      isType: type !== undefined
    })
  )

const room = (file: string): string => /^internal\/(\w+)\//.exec(file)?.[1] ?? "outside"
const name = (of: string): string => of.replace(/\.js$/, "")

/** The rooms that a face for another version of Effect takes as they are. */
const rooms: Record<string, (of: string) => boolean> = {
  common: () => false,
  lease: (of) => room(of) === "common",
  memory: (of) => room(of) === "common",
  quorum: (of) => room(of) === "common",
  redis: (of) => room(of) === "common" || of === "ioredis"
}

const inRooms = files.filter((file) => rooms[room(file)] !== undefined)

describe("the rooms", () => {
  it.each(inRooms)("%s knows the engine's interface, and what its room may", (file) => {
    const strangers = importsOf(file).filter(
      ({ of }) =>
        !of.startsWith("node:") &&
        of !== "internal/engine.js" &&
        room(of) !== room(file) &&
        !rooms[room(file)]!(of)
    )
    expect(strangers).toEqual([])
  })

  it("are all there", () => {
    expect(new Set(inRooms.map(room))).toEqual(new Set(Object.keys(rooms)))
  })

  it("are known to the public modules, and to the face only as far as it needs them", () => {
    const knownIn = (face: string) =>
      new Set(
        files
          .filter((file) => room(file) === face)
          .flatMap((file) => importsOf(file).map(({ of }) => room(of)))
      )
    expect([...knownIn("face")].sort()).toEqual(["common", "face", "faces", "lease", "outside"])
    expect([...knownIn("face4")].sort()).toEqual(["common", "face4", "faces", "lease", "outside"])
    expect([...knownIn("faces")].sort()).toEqual(["common", "faces", "outside"])
  })

  it("a face knows the public modules of its own version of Effect, and those of both", () => {
    const publicOf = (face: string) =>
      files
        .filter((file) => room(file) === face)
        .flatMap((file) => importsOf(file).map(({ of }) => of))
        .filter((of) => /^\w+\.js$|^effect4\//.test(of))
    const both = ["Lease.js", "LockError.js"]
    expect(publicOf("face").filter((of) => of.startsWith("effect4/"))).toEqual([])
    expect(
      publicOf("face4").filter((of) => !of.startsWith("effect4/") && !both.includes(of))
    ).toEqual([])
    expect(publicOf("faces").filter((of) => !both.includes(of))).toEqual([])
  })

  it.each(files.filter((file) => room(file) === "outside" && !file.startsWith("internal/")))(
    "%s begins with what says which face it is, unless it is of both",
    (file) => {
      const said = file.startsWith("effect4/")
        ? 'import "../internal/with-effect-3-import/effect-redis-lock.js"'
        : 'import "./internal/with-effect-4-import/effect-redis-lock/effect4.js"'
      const isOfBoth = ["Lease.ts", "LockError.ts"].includes(file)
      expect(code(file).trim().startsWith(said)).toBe(!isOfBoth)
    }
  )

  it("a public module runs nothing that one version of Effect lacks: what is not found has to say which", () => {
    const packages = { "": "effect/dist/esm", "effect4/": "effect4/dist" }
    const found = (directory: string, of: string) =>
      Fs.existsSync(
        Path.join(source, "../node_modules", directory, `${of.slice("effect/".length)}.js`)
      )
    const strangers = files
      .filter((file) => room(file) === "outside" && !file.startsWith("internal/"))
      // (there is none for Effect 4: without @effect/platform, that is what is not found)
      .filter((file) => file !== "LockInspectorHttp.ts")
      .flatMap((file) =>
        importsOf(file)
          .filter(({ isType, of }) => !isType && /^@?effect\//.test(of))
          .filter(({ of }) => !Object.values(packages).every((directory) => found(directory, of)))
          .map(({ of }) => `${file}: ${of}`)
      )
    expect(strangers).toEqual([])
  })

  it("the store contract knows nothing but what a store of somebody else's knows", () => {
    const inContract = files.filter((file) => room(file) === "contract")
    const known = inContract.flatMap((file) => importsOf(file))
    // (what is said there is public by way of both faces)
    const types = "internal/faces/lockStore.js"
    expect(
      known.filter(
        ({ isType, of }) =>
          of.startsWith("internal/") && room(of) !== "contract" && !(isType && of === types)
      )
    ).toEqual([])
    expect(known.map(({ of }) => of)).toContain(types)
    expect(known.map(({ of }) => of)).not.toContain("LockStore.js")
  })

  it("the engine's interface knows the words of the public modules, and runs nothing of theirs", () => {
    expect(importsOf("internal/engine.ts").filter(({ isType }) => !isType)).toEqual([])
  })
})

/** What Effect has in its third version only, and the files that may use it. */
const onlyInEffect3: Record<string, ReadonlyArray<string>> = {
  "withFiberRuntime|interruptedCause": ["face/caller", "face/httpLock"],
  "RuntimeFlags\\b": ["face/caller", "face/fork", "face/guard", "face/effectClock"],
  "getFiberRefs|_fiberRefs": ["face/fiberRefs"],
  "Runtime\\.(make|runFork|defaultRuntimeFlags)": [
    "face/fork",
    "face/redisStore",
    "face/effectClock"
  ],
  "FiberRefs\\.\\w+\\(": ["face/fork", "face/guard"],
  "unsafePoll|inheritAll": ["face/guard"],
  unsafeInterruptAsFork: ["face/adaptedGrant", "face/guard", "face/effectClock", "face/sources"],
  "Scheduler\\.make|updateFiberRefs": ["face/fork"],
  "currentScheduler|withScheduler": ["face/fork", "face/comparingFirst"],
  "MetricKey\\b|MetricLabel\\b|unsafeUpdate|unsafeModify|DefaultServices": ["face/telemetry"],
  "FiberRef\\.unsafeMake": ["face/currentHolds"],
  "currentPreResponseHandlers|Scope\\.extend": ["face/httpLock"],
  "Effect\\.runtime\\b": ["face/redisStore", "face/memoryStore"]
}

describe("what Effect 4 does not have", () => {
  it.each(Object.entries(onlyInEffect3))("%s is only where it is needed", (words, allowed) => {
    const users = files
      .filter((file) => new RegExp(words).test(code(file)))
      .map((file) => file.replace(/^internal\/|\.ts$/g, ""))
    expect(users.filter((user) => !allowed.includes(user))).toEqual([])
  })
})

it("no file knows, by way of others, itself", () => {
  const known = new Map(
    files.map((file) => [
      name(file.replace(/\.ts$/, "")),
      importsOf(file)
        .filter(({ of }) => !of.startsWith("node:"))
        .map(({ of }) => name(of))
    ])
  )
  const done = new Set<string>()
  const circles: Array<string> = []
  const visit = (file: string, path: ReadonlyArray<string>): void => {
    if (path.includes(file)) circles.push([...path, file].join(" > "))
    if (path.includes(file) || done.has(file)) return
    for (const next of known.get(file) ?? []) visit(next, [...path, file])
    done.add(file)
  }
  for (const file of known.keys()) visit(file, [])
  expect(circles).toEqual([])
})

/** (One is a table of scripts; the public modules are mostly documentation.) */
const longer = ["internal/redis/scripts.ts", "internal/redis/semaphoreScripts.ts"]

describe("the command line", () => {
  const directory = fileURLToPath(new URL("../../cli/", import.meta.url))
  const texts = Fs.readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => [name, Fs.readFileSync(Path.join(directory, name), "utf8")] as const)

  it.each(texts)("%s knows the library as every program does, and is not long", (_, text) => {
    const known = [...text.matchAll(/(?:from|import\() ?"([^"]+)"/g)].map(([, of]) => of!)
    const strangers = known.filter(
      (of) =>
        !/^(\.\.?\/(?!.*(src|internal)\/)|node:|ioredis$|effect\/|@effect\/(cli|platform-node)\/)/.test(
          of
        ) && !/^effect-redis-lock(\/LockInspectorHttp)?$/.test(of)
    )
    expect(strangers).toEqual([])
    expect(text.split("\n").length).toBeLessThanOrEqual(351)
  })

  it("is not known to the library", () => {
    expect(
      files.flatMap((file) => importsOf(file)).filter(({ of }) => /(^|\/)cli\//.test(of))
    ).toEqual([])
  })
})

it("no file is long", () => {
  const long = files.filter(
    (file) =>
      !longer.includes(file) &&
      file.includes("/") &&
      Fs.readFileSync(Path.join(source, file), "utf8").split("\n").length > 351
  )
  expect(long).toEqual([])
})
