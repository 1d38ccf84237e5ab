/**
 * What all pictures share: they are 360 wide, with text of 13 or more, so that it can be read on a phone; they have a
 * background of their own, and colours for light and dark.
 */

export const width = 360
export const fontSize = 13
export const lineHeight = 17

export interface Size {
  readonly height: number
  /** At which width it is shown where there is more room. */
  readonly shownAt: number
}

const light = `--bg:#fff;--line:#d1d9e0;--text:#1f2328;--soft:#59636e;--a:#0b62c4;--b:#a8500f;--bad:#cf222e;--good:#1a7f37;--gray:#8c959f`
const dark = `--bg:#0d1117;--line:#3d444d;--text:#f0f6fc;--soft:#9da7b3;--a:#539bf5;--b:#e0853d;--bad:#ff7b72;--good:#57c267;--gray:#6e7681`

const style = `svg{${light}}@media(prefers-color-scheme:dark){svg{${dark}}}
text{font:${fontSize}px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;fill:var(--text)}
.h{font-size:16px;font-weight:600}.k{font-weight:600}.soft{fill:var(--soft)}
.mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;white-space:pre}
.a{fill:var(--a)}.b{fill:var(--b)}.bad{fill:var(--bad)}.good{fill:var(--good)}.gray{fill:var(--gray)}`

export const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

/** The description says in words all that the picture shows. */
export const svg = (
  { height, shownAt }: Size,
  { description, title }: { readonly title: string; readonly description: string },
  content: ReadonlyArray<string>
): string => `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${shownAt}" height="${Math.round((height * shownAt) / width)}" role="img" aria-labelledby="t d">
<title id="t">${escape(title)}</title>
<desc id="d">${escape(description)}</desc>
<style>${style}</style>
<rect x=".5" y=".5" width="${width - 1}" height="${height - 1}" rx="6" style="fill:var(--bg);stroke:var(--line)"/>
${content.join("\n")}
</svg>
`

export const text = (x: number, y: number, content: string, classes = "", more = ""): string =>
  `<text x="${round(x)}" y="${round(y)}"${classes === "" ? "" : ` class="${classes}"`}${more}>${escape(content)}</text>`

export const round = (value: number): number => Math.round(10 * value) / 10

/** How wide it is at most, in the widest of the usual fonts. */
const widthOf = (content: string, mono: boolean): number =>
  mono
    ? content.length * 0.61 * fontSize
    : [...content].reduce(
        (sum, char) =>
          sum + (/[iljtfr.,:;'|() ]/.test(char) ? 0.39 : /[mwMW]/.test(char) ? 0.95 : 0.64),
        0
      ) * fontSize

/** Lines that fit into that width. */
export const wrap = (
  content: string,
  room: number,
  { hang = "", mono = false }: { readonly hang?: string; readonly mono?: boolean } = {}
): ReadonlyArray<string> => {
  const lines: Array<string> = []
  let line = ""
  for (const word of content.split(/(?<=\S)(?= )/)) {
    if (line === "" || widthOf(line + word, mono) <= room) line += word
    else {
      lines.push(line)
      line = hang + word.trimStart()
    }
  }
  return [...lines, line]
}

/** The texts of a picture, in order, without what is different in each run. */
export const words = (picture: string): string =>
  [...picture.matchAll(/<text[^>]*>(.*?)<\/text>/gs)]
    .map(([, content]) => content!.replace(/<[^>]*>/g, ""))
    .join(" ")
    .replace(/\d[\d.,]*( +\d[\d.,]*)*/g, "#")
    .replace(/\s+/g, " ")
