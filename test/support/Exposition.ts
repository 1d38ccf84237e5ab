/**
 * The text in which Prometheus reads metrics, and whether queries (of a dashboard, of alerts) ask for
 * what is in it: metrics and labels that exist, counters by their rate, labels in texts that are there.
 */
import { parser } from "@prometheus-io/lezer-promql"

export interface ExportedMetric {
  readonly type: string
  /** The labels of each series. */
  readonly series: ReadonlyArray<Readonly<Record<string, string>>>
}

export type Exposition = ReadonlyMap<string, ExportedMetric>

export const parse = (text: string): Exposition => {
  const types = new Map<string, string>()
  const metrics = new Map<string, { type: string; series: Array<Record<string, string>> }>()
  for (const line of text.split("\n")) {
    const typed = /^# TYPE (\S+) (\S+)/.exec(line)
    if (typed !== null) types.set(typed[1]!, typed[2]!)
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$/.exec(line)
    if (sample === null) continue
    const [, name, inBraces = ""] = sample
    const type = types.get(name!) ?? types.get(name!.replace(/_(bucket|sum|count)$/, ""))
    let metric = metrics.get(name!)
    if (metric === undefined) metrics.set(name!, (metric = { type: type ?? "untyped", series: [] }))
    const labels = inBraces.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)
    metric.series.push(Object.fromEntries(Array.from(labels, ([, key, value]) => [key!, value!])))
  }
  return metrics
}

export interface Query {
  /** Where it stands, for messages. */
  readonly where: string
  readonly expr: string
  /** Labels that a text beside it shows. */
  readonly shown: ReadonlyArray<string>
}

/** Every series has them: Prometheus adds them. */
const ofPrometheus = ["job", "instance"]

type Tree = ReturnType<typeof parser.parse>
type Node = Tree["topNode"]

const below = (node: Node, name: string): ReadonlyArray<Node> => {
  const found: Array<Node> = []
  node.cursor().iterate((each) => {
    if (each.name === name) found.push(each.node)
  })
  return found
}

const parents = (node: Node): ReadonlyArray<Node> =>
  node.parent === null ? [] : [node.parent, ...parents(node.parent)]

/** What is wrong with a query, in words; nothing, if all is well. */
export const problemsOf = (
  { expr, shown, where }: Query,
  exposition: Exposition
): ReadonlyArray<string> => {
  // (as Grafana does, for all of a variable's values)
  const text = expr.replaceAll("$__rate_interval", "5m").replaceAll(/\$\w+/g, ".*")
  const { topNode } = parser.parse(text)
  const textOf = ({ from, to }: Node) => text.slice(from, to)
  const stringOf = (node: Node) => JSON.parse(textOf(node)) as string
  const problems: Array<string> = []
  const problem = (what: string) => problems.push(`${where}: ${what}: ${expr}`)
  if (below(topNode, "⚠").length > 0) problem("is no PromQL")

  const selectors = below(topNode, "VectorSelector")
  if (selectors.length === 0) problem("asks for no metric")
  for (const selector of selectors) {
    const name = textOf(selector.getChild("Identifier")!)
    const metric = exposition.get(name)
    if (metric === undefined) {
      problem(`there is no metric ${name}`)
      continue
    }
    const labelsOf = (series: Readonly<Record<string, string>>) => [
      ...Object.keys(series),
      ...ofPrometheus
    ]
    const has = (label: string) => metric.series.some((series) => labelsOf(series).includes(label))
    for (const matcher of below(selector, "UnquotedLabelMatcher")) {
      const label = textOf(matcher.getChild("LabelName")!)
      if (!has(label)) {
        problem(`${name} has no label ${label}`)
        continue
      }
      const value = stringOf(matcher.getChild("StringLiteral")!)
      const operator = textOf(matcher.getChild("MatchOp")!)
      if (ofPrometheus.includes(label) || operator.startsWith("!")) continue
      const values = operator === "=~" ? value.split("|") : [value]
      for (const one of values) {
        const matches = (of: string) =>
          operator === "=~" ? new RegExp(`^(?:${one})$`).test(of) : of === one
        if (!metric.series.some((series) => matches(series[label] ?? ""))) {
          problem(`${name} never has ${label}="${one}"`)
        }
      }
    }
    const around = parents(selector)
    const aggregates = around.filter((node) => node.name === "AggregateExpr")
    for (const label of aggregates.flatMap((node) => groupingOf(node).map(textOf))) {
      if (!has(label)) problem(`${name} has no label ${label}`)
    }
    const isRated = around.some(
      (node) => node.name === "FunctionCall" && /^(rate|increase)\(/.test(textOf(node))
    )
    const grows = ["counter", "histogram"].includes(metric.type)
    if (isRated !== grows) problem(`${name} is a ${metric.type}, and ${isRated ? "" : "not "}rated`)
  }
  for (const call of below(topNode, "FunctionCall")) {
    if (!textOf(call).startsWith("histogram_quantile(")) continue
    const grouping = below(call, "AggregateExpr").flatMap((node) => groupingOf(node).map(textOf))
    if (!grouping.includes("le")) problem("a quantile needs the label le")
  }
  // (by the labels of all that is aggregated: what is in between keeps them)
  for (const label of shown) {
    for (const aggregate of below(topNode, "AggregateExpr")) {
      if (!groupingOf(aggregate).map(textOf).includes(label)) problem(`shows no label ${label}`)
    }
  }
  return problems
}

/** The labels by which it is aggregated. */
const groupingOf = (aggregate: Node): ReadonlyArray<Node> => {
  const modifier = aggregate.getChild("AggregateModifier")
  return modifier === null ? [] : below(modifier, "LabelName")
}
