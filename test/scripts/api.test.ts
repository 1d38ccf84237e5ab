/** The API report and the API reference: what they see in declarations, and what they take no notice of. */
import { describe, expect, it } from "vitest"
import { undocumented } from "../../scripts/api-documented.js"
import { type Face, facesOf } from "../../scripts/api-faces.js"
import { Pages } from "../../scripts/api-pages.js"
import { reportOf } from "../../scripts/api-report.js"

const manifest = {
  name: "locks",
  exports: {
    ".": { types: "./dist/index.d.ts" },
    "./Lock": { types: "./dist/Lock.d.ts" },
    "./Store": { types: "./dist/Store.d.ts" },
    "./effect4": { types: "./dist/effect4/index.d.ts" },
    "./effect4/Lock": { types: "./dist/effect4/Lock.d.ts" },
    "./internal/*": null,
    "./package.json": "./package.json"
  }
}

const index = `
/**
 * Locks.
 *
 * @since 1.0.0
 */
/** @since 1.0.0 */
export * as Lock from "./Lock.js";
`

const files: Readonly<Record<string, string>> = {
  "dist/index.d.ts": index,
  "dist/effect4/index.d.ts": index,
  "dist/Lock.d.ts": `
/**
 * A lock.
 *
 * @example
 * \`\`\`ts
 * Lock.acquire("key", { ttl: 1 })
 * \`\`\`
 *
 * @since 1.0.0
 */
import type * as Effect from "effect/Effect";
import type { LockLost, Share as Part } from "./internal/lost.js";
import type { Keep, Store } from "./internal/options.js";
import type * as Types from "./internal/options.js";
/**
 * Takes it.
 *
 * @since 1.0.0
 * @category constructors
 */
export declare const acquire: <Keep>(key: string, options: Types.Options, keep: Keep) => Effect.Effect<Part, LockLost, Store>;
export type { Options } from "./internal/options.js";
`,
  "dist/Store.d.ts": `
/**
 * A store.
 *
 * @example
 * \`\`\`ts
 * declare const store: Store.Store
 * \`\`\`
 *
 * @since 1.0.0
 */
import type { Store as Basis } from "./internal/options.js";
/**
 * Where leases are.
 *
 * @since 1.0.0
 * @category models
 */
export interface Store extends Basis {
}
`,
  "dist/internal/lost.d.ts": `
import type { YieldableError } from "effect/Cause";
export declare class LockLost extends YieldableError {
    readonly reason: "Missing" | "Taken";
}
export interface Share {
    readonly of: Owner;
}
export interface Owner {
}
export interface Unused {
}
`,
  "dist/internal/options.d.ts": `
/**
 * How to take it.
 *
 * @since 1.0.0
 * @category models
 */
export interface Options {
    /** How long. */
    readonly ttl: number;
    /** Who. */
    readonly owner?: string | undefined;
}
export type Keep = (key: string) => boolean;
export interface Store {
    readonly keep: Keep;
}
`,
  "dist/effect4/Lock.d.ts": `
/**
 * The same.
 *
 * @since 1.0.0
 */
import "../internal/only4.js";
export * from "../Lock.js";
`
}

type Change = readonly [file: string, from: string, to: string]

const faces = (...changes: ReadonlyArray<Change>): readonly [Face, Face] => {
  const changed = { ...files }
  for (const [file, from, to] of changes) {
    expect(changed[file]).toContain(from)
    changed[file] = changed[file]!.replace(from, to)
  }
  return facesOf((file) => changed[file]!, manifest)
}

/** The lines that are gone, and those that have come. */
const difference = async (...changes: ReadonlyArray<Change>): Promise<ReadonlyArray<string>> => {
  const lines = async ([face]: readonly [Face, Face]) => (await reportOf(face)).split("\n")
  const [before, after] = [await lines(faces()), await lines(faces(...changes))]
  return [
    ...before.filter((line) => !after.includes(line)).map((line) => `- ${line.trim()}`),
    ...after.filter((line) => !before.includes(line)).map((line) => `+ ${line.trim()}`)
  ]
}

describe("the API report", () => {
  it("has what modules export, and what that is made of", async () => {
    expect(await reportOf(faces()[0])).toMatchInlineSnapshot(`
      "# The API for Effect 3

      Written by \`npm run api:report\` from the built declarations; not by hand. What changes here changes for users.

      ## locks

      \`\`\`ts
      export * as Lock
      \`\`\`

      ## locks/Lock

      \`\`\`ts
      import type * as Effect from "effect/Effect"

      export interface Options {
        readonly ttl: number
        readonly owner?: string | undefined
      }

      export declare const acquire: <Keep>(
        key: string,
        options: Options,
        keep: Keep
      ) => Effect.Effect<internal.lost.Share, internal.lost.LockLost, internal.options.Store>
      \`\`\`

      ## locks/Store

      \`\`\`ts
      export interface Store extends internal.options.Store {}
      \`\`\`

      ## Not exported

      What the types above are made of, and no module exports.

      ## internal/lost

      \`\`\`ts
      import type { YieldableError } from "effect/Cause"

      declare class LockLost extends YieldableError {
        readonly reason: "Missing" | "Taken"
      }

      interface Owner {}

      interface Share {
        readonly of: Owner
      }
      \`\`\`

      ## internal/options

      \`\`\`ts
      type Keep = (key: string) => boolean

      interface Store {
        readonly keep: Keep
      }
      \`\`\`
      "
    `)
  })

  it("of the other face says whose a declaration is there", async () => {
    const report = await reportOf(faces()[1])
    expect(report).toContain("## locks/effect4/Lock")
    expect(report).toContain("export interface Options {")
    expect(report).not.toContain("## locks/Lock")
  })

  it.each<readonly [string, Change, ReadonlyArray<string>]>([
    [
      "an export with another name",
      ["dist/Lock.d.ts", "const acquire:", "const take:"],
      ["- export declare const acquire: <Keep>(", "+ export declare const take: <Keep>("]
    ],
    [
      "an option that is gone",
      ["dist/internal/options.d.ts", "readonly owner?: string | undefined;", ""],
      ["- readonly owner?: string | undefined"]
    ],
    [
      "an option that is needed now",
      ["dist/internal/options.d.ts", "owner?:", "owner:"],
      ["- readonly owner?: string | undefined", "+ readonly owner: string | undefined"]
    ],
    [
      "another error",
      ["dist/Lock.d.ts", "LockLost, Store>", "LockLost | Error, Store>"],
      [
        ") => Effect.Effect<internal.lost.Share, internal.lost.LockLost, internal.options.Store>",
        ") => Effect.Effect<internal.lost.Share, internal.lost.LockLost | Error, internal.options.Store>"
      ]
    ],
    [
      "another reason of an error that no module exports",
      ["dist/internal/lost.d.ts", `"Missing" | "Taken"`, `"Missing"`],
      [`- readonly reason: "Missing" | "Taken"`, `+ readonly reason: "Missing"`]
    ],
    [
      "a type with the same name from another package",
      ["dist/internal/lost.d.ts", `from "effect/Cause"`, `from "elsewhere"`],
      [
        `- import type { YieldableError } from "effect/Cause"`,
        `+ import type { YieldableError } from "elsewhere"`
      ]
    ],
    [
      "a module that is not of the index any more",
      ["dist/index.d.ts", `export * as Lock from "./Lock.js";`, "export {};"],
      ["- export * as Lock"]
    ]
  ])("sees %s", async (_, change, expected) => {
    const found = await difference(change)
    for (const line of expected) expect(found.join("\n")).toContain(line)
    expect(found.length).toBeLessThanOrEqual(2)
  })

  it.each<readonly [string, ReadonlyArray<Change>]>([
    ["a comment", [["dist/internal/options.d.ts", "How long.", "How long, in ms."]]],
    ["what nobody mentions", [["dist/internal/lost.d.ts", "Unused", "Unneeded"]]],
    [
      "the names of imports",
      [
        ["dist/Lock.d.ts", "Share as Part", "Share as Piece"],
        ["dist/Lock.d.ts", "<Part, LockLost", "<Piece, LockLost"]
      ]
    ],
    ["line breaks", [["dist/Lock.d.ts", "(key: string, options", "(key: string,\n\n    options"]]]
  ])("does not see %s", async (_, changes) => {
    expect(await difference(...changes)).toEqual([])
  })

  it("does not understand what it does not know, and says so", () => {
    expect(() =>
      faces([
        "dist/Store.d.ts",
        "export interface",
        "export declare namespace Other {}\nexport interface"
      ])
    ).toThrow("dist/Store.d.ts: a TSModuleDeclaration that is not known here")
    expect(() =>
      faces(["dist/Lock.d.ts", "export type { Options }", "export type { Option }"])
    ).toThrow("dist/Lock.d.ts: Option leads to nothing")
  })
})

describe("the API reference", () => {
  const page = async (change: Change) => {
    const [face, face4] = faces(change)
    const pages = new Pages(face, face4)
    const [lock] = face.modules
    return { text: await pages.page(lock!), problems: pages.problems }
  }
  const saying = (text: string): Change => ["dist/Lock.d.ts", "Takes it.", text]

  it("has links for what is named", async () => {
    const { problems, text } = await page(
      saying("As {@link Options | said}, in a {@link Store.Store}: `Options`, `Store`, `acquire`.")
    )
    expect(text).toContain(
      "As [said](#options), in a [`Store.Store`](Store.md#store-1): [`Options`](#options), [`Store`](Store.md#store-1), `acquire`."
    )
    expect(problems).toEqual([])
  })

  it("says that a link leads nowhere", async () => {
    const { problems } = await page(saying("See {@link Lock.release}."))
    expect(problems).toEqual(["locks/Lock: {@link Lock.release} leads nowhere"])
  })

  it("has no HTML and no template of somebody's text", async () => {
    const { text } = await page(saying("An <A> of {{ b }}, and `<A>` of `{{ b }}`."))
    expect(text).toContain("An &lt;A> of &#123;&#123; b }}, and `<A>` of `{{ b }}`.")
    expect(text).not.toContain("An <A>")
  })

  it("has the types, what an effect fails with, and what it needs", async () => {
    const { text } = await page(saying("Takes it."))
    expect(text).toContain("**Fails with**: `LockLost`. **Needs**: [`Store`](Store.md#store-1).")
    expect(text).toContain("class LockLost extends YieldableError {")
    expect(text).toContain("- `ttl`: How long.")
    expect(text).toContain("**Example**: [at the top](#lock)")
    // (which has no module Store)
    expect(text).toContain("On Effect 4:\n\n```ts\n// not exported\ntype Keep =")
  })
})

describe("what has to be documented", () => {
  it("is, in what is as it should be", () => {
    expect(faces().flatMap(undocumented)).toEqual([])
  })

  it.each<readonly [Change, ReadonlyArray<string>]>([
    [
      ["dist/internal/options.d.ts", " * @since 1.0.0\n", ""],
      ["locks/Lock: Options has no @since", "locks/effect4/Lock: Options has no @since"]
    ],
    [
      ["dist/Store.d.ts", " * Where leases are.\n *\n", ""],
      ["locks/Store: Store: its comment does not say what it is"]
    ],
    [["dist/Store.d.ts", " * @category models\n", ""], ["locks/Store: Store has no @category"]],
    [
      [
        "dist/Lock.d.ts",
        " * Takes it.\n *\n * @since 1.0.0\n * @category constructors\n */",
        " */"
      ],
      [
        "locks/Lock: acquire: its comment does not say what it is",
        "locks/Lock: acquire has no @since",
        "locks/Lock: acquire has no @category",
        "locks/effect4/Lock: acquire: its comment does not say what it is",
        "locks/effect4/Lock: acquire has no @since",
        "locks/effect4/Lock: acquire has no @category"
      ]
    ],
    [
      ["dist/Lock.d.ts", `Lock.acquire("key"`, `acquire("key"`],
      ["locks/Lock: acquire is not used in an example of its module"]
    ],
    [["dist/Store.d.ts", "@example", "For example:"], ["locks/Store has no @example"]],
    [
      ["dist/effect4/Lock.d.ts", "/**\n * The same.\n *\n * @since 1.0.0\n */", ""],
      ["locks/effect4/Lock has no comment"]
    ]
  ])("is missed: %j", (change, expected) => {
    expect(faces(change).flatMap(undocumented)).toEqual(expected)
  })
})
