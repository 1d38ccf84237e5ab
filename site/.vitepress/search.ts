/**
 * The theme's search box, with roles that are true: its template says that the box is a button, though it has fields
 * and buttons in it, and that each result is an option, though the link in it is what can be chosen.
 */
import type { Plugin } from "vite"

const changes: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /role="button"\s+:aria-owns="[^"]+"\s+aria-expanded="true"\s+aria-haspopup="listbox"/g,
    `role="dialog" aria-modal="true"`
  ],
  [
    /:id="'localsearch-item-' \+ index"\s+:aria-selected="selectedIndex === index \? 'true' : 'false'"\s+role="option"/g,
    `role="presentation"`
  ],
  [
    /:aria-label="\[...p.titles, p.title\].join\(' > '\)"/g,
    `:id="'localsearch-item-' + index" :aria-selected="selectedIndex === index" role="option"`
  ],
  [/<kbd :aria-label/g, `<kbd role="img" :aria-label`]
]

export const searchBox: Plugin = {
  name: "search-box",
  enforce: "pre",
  transform(code, id) {
    if (!id.endsWith("/VPLocalSearchBox.vue")) return undefined
    return changes.reduce((all, [from, to]) => {
      const changed = all.replace(from, to)
      if (changed === all) throw new Error(`the theme's search box has changed: no ${from}`)
      return changed
    }, code)
  }
}
