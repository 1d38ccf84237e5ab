/** A page for each file and folder that documents link to, as long as package.json says no repository. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { linkedSources, onSite, root, type Source } from "../.vitepress/links.js"

const languages: Readonly<Record<string, string>> = {
  ts: "ts",
  tsx: "tsx",
  mjs: "js",
  json: "json",
  yml: "yaml",
  md: "md",
  lua: "lua"
}

const shown = ({ names, path }: Source): string => {
  if (names !== undefined) {
    const link = (name: string) => onSite("README.md", `${path}/${name}`)
    return names.map((name) => `- [${name}](${link(name)})`).join("\n")
  }
  if (/\.(png|svg)$/.test(path)) return `![](/${path})`
  const language = languages[path.split(".").at(-1)!] ?? "text"
  return `~~~~~~${language}\n${readFileSync(join(root, path), "utf8")}\n~~~~~~`
}

export default {
  paths: () =>
    linkedSources().map((source) => ({
      params: { path: source.path },
      content: `# ${source.path}\n\n${shown(source)}\n`
    }))
}
