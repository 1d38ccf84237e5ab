/**
 * The scripts of claims with bounds: those of the kind, with what is done before and after them. A claim
 * with bounds shares its token with no other claim, and its lease begins with an answer: of a grant by
 * message it asks (`place.ts`). So what the answered command does is done before anything runs.
 *
 * KEYS: those of the kind; of a lock also
 * KEYS[5]  the last tick that was granted: `<tick> <token of that grant> <the tick before it>`
 */
import { script, type Script } from "./lua.js"
import * as lock from "./scripts.js"
import * as semaphore from "./semaphoreScripts.js"

/** A whole script as a function of another one: it uses the same KEYS and ARGV. */
const as = (name: string, { lua }: Script): string => `local function ${name}()\n${lua}\nend\n`

/**
 * When the lease of the asker ends, of a lock and of what several can hold: in how many ms, and sooner. And
 * when it does at the latest: that long after the server's time that is in its fencing token.
 */
const ending = `
local function millis()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function untilMaxHold(fence, maxHold)
  return math.floor(tonumber(fence) / 1000) + tonumber(maxHold) - millis()
end
`

const endingOfLock = `
${ending}
local function left()
  return redis.call('PTTL', KEYS[1])
end

local function shorten(ttl)
  redis.call('PEXPIRE', KEYS[1], ttl)
end
`

const endingOfSeveral = `
${ending}
local function left()
  return (redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) - millis()
end

local function shorten(ttl)
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', millis() + ttl), ARGV[1])
  redis.call('PEXPIREAT', KEYS[1], redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
end
`

const lastTick = `
local function lastTick()
  return string.match(redis.call('GET', KEYS[5]) or '', '^(%-?%d+) (%S+) ?(%-?%d*)$')
end
`

/**
 * ARGV: those of the plain script, with a window and a ttl by handoff that may be empty; then a tick and
 * for how long it is kept, and maxHold (ms): each may be empty.
 *
 * As the plain script does, unless the claim's tick is not later than the last one: then it leaves the
 * queue, or gives back what it was granted by handoff, and answers { 'tick', last tick }. The tick of a
 * grant is noted with its token, so that a command that is sent again finds that it is its own.
 *
 * A grant is { as the plain script answers, what is left of the ttl, what is left of maxHold or -1 }: the
 * grant can have been made by an earlier command, or by handoff.
 */
const granting = (plain: Script, release: Script, ending: string): Script =>
  script(
    plain.name,
    as("plain", plain),
    as("leave", release),
    ending,
    lastTick,
    `
local last, by
if ARGV[6] ~= '' then
  last, by = lastTick()
  if last and by ~= ARGV[1] and tonumber(last) >= tonumber(ARGV[6]) then
    leave()
    return { 'tick', last }
  end
end
local answer = plain()
if type(answer) ~= 'string' then return answer end
if ARGV[6] ~= '' and by ~= ARGV[1] then
  redis.call('SET', KEYS[5], ARGV[6] .. ' ' .. ARGV[1] .. ' ' .. (last or ''), 'PX', ARGV[7])
end
local rest, most = left(), -1
if ARGV[8] ~= '' then
  most = math.max(0, untilMaxHold(string.match(answer, '^%d+'), ARGV[8]))
  if most < rest then
    shorten(math.max(1, most))
    rest = most
  end
end
return { answer, rest, most }
`
  )

/**
 * ARGV: those of the plain script, the last of which is the `at`th; then, where the claim has a maxHold,
 * the fencing token and that. It asks for no more than is left of it, and answers { 1, what is left of the
 * ttl, what is left of maxHold or -1 }, or as the plain script does.
 */
const renewing = (plain: Script, at: number, ending: string): Script =>
  script(
    plain.name,
    as("plain", plain),
    ending,
    `
local fence, maxHold = ARGV[${at + 1}], ARGV[${at + 2}]
-- (an argument more would mean something to the plain script)
ARGV[${at + 1}], ARGV[${at + 2}] = nil, nil
local most = maxHold and math.max(0, untilMaxHold(fence, maxHold)) or -1
if maxHold and most < tonumber(ARGV[2]) then ARGV[2] = string.format('%.0f', math.max(1, most)) end
local answer = plain()
if answer ~= 1 then return answer end
return { 1, left(), most }
`
  )

/**
 * ARGV: token, and `1` if its lease was used. Otherwise its grant did not come to its caller: its tick
 * can be granted again.
 */
const releasing = script(
  lock.release.name,
  as("plain", lock.release),
  lastTick,
  `
if not ARGV[2] then
  local _, by, before = lastTick()
  if by == ARGV[1] and before == '' then
    redis.call('DEL', KEYS[5])
  elseif by == ARGV[1] then
    redis.call('SET', KEYS[5], before .. ' - ', 'KEEPTTL')
  end
end
return plain()
`
)

const ofSeveral = ({
  acquire,
  heartbeat,
  release,
  renew,
  reshare
}: Record<"acquire" | "heartbeat" | "release" | "renew" | "reshare", Script>) => ({
  acquire: granting(acquire, release, endingOfSeveral),
  heartbeat: granting(heartbeat, release, endingOfSeveral),
  renew: renewing(renew, 2, endingOfSeveral),
  reshare: renewing(reshare, 3, endingOfSeveral),
  release
})

export const lockScripts = {
  acquire: granting(lock.acquire, lock.release, endingOfLock),
  heartbeat: granting(lock.heartbeat, lock.release, endingOfLock),
  renew: renewing(lock.renew, 2, endingOfLock),
  reshare: undefined,
  release: releasing
}

export const semaphoreScripts = ofSeveral(semaphore)

export const readWriteScripts = ofSeveral(semaphore.readWrite)
