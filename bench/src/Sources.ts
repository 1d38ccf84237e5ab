/** Which sources were measured. */
import { transformSync } from "esbuild"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { join, sep } from "node:path"

/**
 * A hash of src/ that is the same in every clone, however much of the history it has. What is not run does not
 * count: comments, types, and how the code is laid out.
 */
export const hash = (root: string): string => {
  const directory = join(root, "src")
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => name.split(sep).join("/"))
    .sort()
  const all = createHash("sha256")
  for (const name of names) {
    const text = readFileSync(join(directory, name), "utf8")
    const { code } = transformSync(text, {
      loader: "ts",
      format: "esm",
      target: "es2022",
      minifyWhitespace: true,
      legalComments: "none",
      tsconfigRaw: {}
    })
    all.update(`${name}\n${code}\n`)
  }
  return all.digest("hex").slice(0, 16)
}
