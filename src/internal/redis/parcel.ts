/** Which calls travel together: what many callers asked for in one turn of the event loop. */
import type { Call } from "./call.js"
import type { Script } from "./lua.js"
import * as node from "./nodeScripts.js"
import * as scripts from "./scripts.js"
import * as semaphore from "./semaphoreScripts.js"

/** Larger ones make client and server wait for each other. */
const batchSize = 16

/** What a batch takes of each call: which keys, and how many arguments. */
interface Takes {
  readonly keys: ReadonlyArray<number>
  readonly args: number
}

/** In the order in which the batch takes them. */
type Batch = ReadonlyMap<Script, Takes>

const ofLocks: Batch = new Map([
  [scripts.release, { keys: [0, 2], args: 1 }],
  [scripts.renew, { keys: [0], args: 2 }],
  [scripts.acquire, { keys: [0, 2, 1], args: 3 }]
])

/** Of a node of a quorum. */
const ofNode: Batch = new Map([[node.confirm, { keys: [0, 1, 3], args: 4 }]])

const six = [0, 1, 2, 3, 4, 5]
const ofSeveral = ({
  acquire,
  release,
  renew
}: Record<"acquire" | "release" | "renew", Script>): Batch =>
  new Map([
    [release, { keys: six, args: 1 }],
    [renew, { keys: six, args: 2 }],
    [acquire, { keys: six, args: 3 }]
  ])

const batches: ReadonlyMap<Script, Batch> = new Map([
  [scripts.batch, ofLocks],
  [semaphore.batch, ofSeveral(semaphore)],
  [node.confirmAll, ofNode],
  [semaphore.readWrite.batch, ofSeveral(semaphore.readWrite)]
])

const batchOfEach: ReadonlyMap<Script, Script> = new Map(
  [...batches].flatMap(([batch, takes]) => [...takes.keys()].map((script) => [script, batch]))
)

/** The script with which it can travel together with others. */
const batchOf = (script: Script): Script | undefined => batchOfEach.get(script)

/** Whether calls of that script can travel with others. */
export const canTravelTogether = (script: Script): boolean => batchOf(script) !== undefined

/** One command, and the calls in it. */
export class Parcel {
  constructor(
    readonly script: Script,
    readonly keys: ReadonlyArray<string>,
    readonly args: ReadonlyArray<string>,
    readonly calls: ReadonlyArray<Call>
  ) {}

  get isBatch(): boolean {
    return this.calls.length > 1
  }

  /** Whether an answer is of use to anybody. */
  get isOpen(): boolean {
    return this.calls.some((call) => !call.isAnswered)
  }

  /** Tells each call its answer; returns those for which there is none in it: they ask alone. */
  deliver(reply: unknown, sentAt: number): ReadonlyArray<Call> {
    if (!this.isBatch) {
      const call = this.calls[0]!
      call.reply(reply, sentAt, this.script !== call.script)
      return none
    }
    const unanswered: Array<Call> = []
    this.calls.forEach((call, index) => {
      const answer: unknown = Array.isArray(reply) ? reply[index] : null
      // not a free lock without a queue, or some trouble of its own
      if (answer !== null && answer !== undefined) call.reply(answer, sentAt)
      else if (!call.isAnswered) unanswered.push(call)
    })
    return unanswered
  }
}

const none: ReadonlyArray<Call> = []

/** A call that is sent alone, not in a batch. (No literal: see `Outcome`.) */
export const alone = (call: Call): Parcel =>
  new Parcel(call.script, call.keys, call.args, Array.of(call))

/** The call with its first key alone, where that is of use. */
export const byOneKey = (call: Call): Parcel | undefined => {
  const { args, keys, script } = call
  if (script.byOneKey === undefined || args.length < script.byOneKey.leastArgs) return undefined
  return new Parcel(script.byOneKey.script, keys.slice(0, 1), args, Array.of(call))
}

/** As few commands as possible for these calls, none of them larger than it should be. */
export const pack = (calls: ReadonlyArray<Call>, mayTravel: boolean): ReadonlyArray<Parcel> => {
  if (!mayTravel || calls.length === 1) return calls.map(alone)
  const parcels: Array<Parcel> = []
  let batch: Array<Call> = []
  let by: Script | undefined
  const close = () => {
    if (batch.length === 1) parcels.push(alone(batch[0]!))
    else if (batch.length > 0) parcels.push(together(by!, batch))
    batch = []
  }
  for (const call of calls) {
    const script = batchOf(call.script)
    // nothing overtakes what was asked for before
    if (script !== by) close()
    by = script
    if (script === undefined) parcels.push(alone(call))
    else if (batch.push(call) === batchSize) close()
  }
  close()
  return parcels
}

const together = (by: Script, calls: ReadonlyArray<Call>): Parcel => {
  const ordered: Array<Call> = []
  const keys: Array<string> = []
  const args: Array<string> = []
  const counts: Array<string> = []
  for (const [script, takes] of batches.get(by)!) {
    const before = ordered.length
    for (const call of calls) {
      if (call.script !== script) continue
      ordered.push(call)
      for (const index of takes.keys) keys.push(call.keys[index]!)
      for (let index = 0; index < takes.args; index++) args.push(call.args[index]!)
    }
    counts.push(String(ordered.length - before))
  }
  return new Parcel(by, keys, counts.concat(args), ordered)
}
