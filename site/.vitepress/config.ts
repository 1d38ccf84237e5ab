import { slug } from "github-slugger"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { defineConfig } from "vitepress"
import { play } from "../play/bundle.js"
import { hasApi, onSite, pageOf, repositoryUrl, root } from "./links.js"
import { searchBox } from "./search.js"
import { sidebars } from "./sidebar.js"

const description =
  "Distributed locks on Redis for Effect: renewed while your code runs, given back when the scope closes, and your code is interrupted before anyone else can own the lock."

export default defineConfig({
  title: "effect-redis-lock",
  description,
  lang: "en",
  srcDir: "..",
  // what is left are docs/, site/, and some documents beside them
  srcExclude: readdirSync(root, { withFileTypes: true }).flatMap((it) => {
    if (it.isDirectory()) return it.name === "docs" || it.name === "site" ? [] : [`${it.name}/**`]
    return pageOf(it.name) === undefined ? [it.name] : []
  }),
  rewrites: (page) => pageOf(page) ?? page,
  cacheDir: "../.cache/site",
  // (without a preference that is stored, the system's)
  appearance: true,
  head: [["meta", { name: "theme-color", content: "#1f6f8b" }]],
  transformHead: ({ siteData }) => [
    ["link", { rel: "icon", href: `${siteData.base}favicon.svg`, type: "image/svg+xml" }]
  ],
  markdown: {
    // links work on GitHub, too
    anchor: { slugify: (text) => slug(text) },
    attrs: { disable: true },
    theme: { light: "github-light-high-contrast", dark: "github-dark-high-contrast" },
    config: (md) => {
      md.core.ruler.push("repository", ({ env, tokens }) => {
        // (a title by itself has no place, and no links)
        const file: string | undefined = env.realPath ?? env.path
        const document = file?.slice(root.length + 1)
        if (document === undefined || document.startsWith("site/source/")) return
        for (const [index, token] of tokens.entries()) {
          // a heading of a column that says nothing is none
          const isEmpty = token.type === "th_open" && tokens[index + 1]!.content === ""
          if (isEmpty) token.tag = tokens[index + 2]!.tag = "td"
        }
        for (const token of tokens.flatMap((it) => it.children ?? [])) {
          const link = token.type === "link_open" ? token.attrGet("href") : null
          if (link !== null) token.attrSet("href", onSite(document, link))
        }
      })
      // short code stays in one line; in a column, what is long may go on in the next one
      md.renderer.rules.code_inline = (tokens, index) => {
        const { content } = tokens[index]!
        const kept = content.length <= 24 ? ` class="short"` : ""
        const code = content
          .split(/(?<=[\w)][/.:]|[a-z\d])(?=[A-Z])|(?<=[\w)][/.:])(?=\w)/)
          .map((part) => md.utils.escapeHtml(part))
        return `<code v-pre${kept}>${code.join("<wbr>")}</code>`
      }
      // two braces are two braces, and no expression of Vue
      const text = md.renderer.rules.text!
      md.renderer.rules.text = (...args) => text(...args).replaceAll("{{", "&#123;&#123;")
    }
  },
  vite: {
    publicDir: join(root, "site/public"),
    // (the index of the search, which is loaded when somebody searches)
    build: { chunkSizeWarningLimit: 3000 },
    plugins: [
      play(),
      searchBox,
      {
        // pages are outside of the folder that has Vue: on the server they share the theme's
        name: "vue-for-pages",
        enforce: "pre",
        resolveId: (id, _importer, { ssr }) =>
          ssr === true && /^vue(\/|$)/.test(id) ? { id, external: true } : undefined
      }
    ]
  },
  themeConfig: {
    search: {
      provider: "local",
      options: {
        miniSearch: { searchOptions: { fuzzy: 0.1, prefix: true, boost: { title: 4, titles: 2 } } }
      }
    },
    nav: [
      { text: "Start", link: "/start" },
      { text: "Which one?", link: "/which" },
      { text: "Guarantees", link: "/guarantees" },
      ...(hasApi ? [{ text: "API", link: "/api/" }] : [])
    ],
    sidebar: sidebars(),
    outline: { level: [2, 3], label: "On this page" },
    ...(repositoryUrl === undefined
      ? {}
      : { socialLinks: [{ icon: "github" as const, link: repositoryUrl }] }),
    docFooter: { prev: "Before", next: "Next" }
  }
})
