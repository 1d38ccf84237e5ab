/**
 * The scripts of claims with bounds: those of the kind, with what is done before and after them. A claim
 * with bounds shares its token with no other claim, and its lease begins with an answer: of a grant by
 * message it asks (`place.ts`). So what the answered command does is done before anything runs.
 *
 * KEYS: those of the kind; of a lock also
 * KEYS[5]  the last tick that was granted: `<tick> <token of that grant> <the tick before it>`
 */
import { holders, time } from "./holders.js"
import { clock, isOurs, orByOneKey, record, script, type Script } from "./lua.js"
import * as lock from "./scripts.js"
import * as semaphore from "./semaphoreScripts.js"

/** A whole script as a function of another one: it uses the same KEYS and ARGV. */
const as = (name: string, { lua }: Script): string => `local function ${name}()\n${lua}\nend\n`

/** What is made of a plain script is made of the one for its first key alone, too. */
const both = (plain: Script, bound: (plain: Script) => Script): Script =>
  plain.byOneKey === undefined
    ? bound(plain)
    : orByOneKey(bound(plain), bound(plain.byOneKey.script))

/**
 * When the lease of the asker ends, of a lock and of what several can hold: in how many ms, and sooner. And
 * what is left of so many ms after its grant, whose time is in its fencing token.
 */
const ending = `
local function millis()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- (a fencing token can be ahead of the clock, where that was set back)
local function leftOf(hold, fence)
  return math.min(tonumber(hold), math.floor(tonumber(fence) / 1000) + tonumber(hold) - millis())
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
 * for how long it is kept, maxHold and holdAtLeast (ms): each may be empty.
 *
 * As the plain script does, unless the claim's tick is not later than the last one: then it leaves the
 * queue, or gives back what it was granted by handoff, and answers { 'tick', last tick }. The tick of a
 * grant is noted with its token, so that a command that is sent again finds that it is its own.
 *
 * A grant is { as the plain script answers, what is left of the ttl, what is left of maxHold or -1 }: the
 * grant can have been made by an earlier command, or by handoff. With holdAtLeast its ttl is that at least.
 */
const granting = (plain: Script, release: Script, ending: string): Script =>
  script(
    plain.name,
    as("plain", plain),
    as("leave", release),
    ending,
    lastTick,
    `
if ARGV[9] ~= '' and tonumber(ARGV[9]) > tonumber(ARGV[2]) then ARGV[2] = ARGV[9] end
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
  most = math.max(0, leftOf(ARGV[8], string.match(answer, '^%d+')))
  if most < rest then
    shorten(math.max(1, most))
    rest = most
  end
end
return { answer, rest, most }
`
  )

/**
 * ARGV: those of the plain script, the last of which is the `at`th, or empty; then, where the claim has a
 * maxHold, the fencing token and that. It asks for no more than is left of it, and answers { 1, what is left of the
 * ttl, what is left of maxHold or -1 }, or as the plain script does.
 */
const renewing = (whole: Script, at: number, ending: string): Script =>
  both(whole, (plain) =>
    script(
      plain.name,
      as("plain", plain),
      ending,
      `
local fence, maxHold = ARGV[${at + 1}], ARGV[${at + 2}]
-- (an argument more would mean something to the plain script)
ARGV[${at + 1}], ARGV[${at + 2}] = nil, nil
if ARGV[${at}] == '' then ARGV[${at}] = nil end
local most = maxHold and math.max(0, leftOf(maxHold, fence)) or -1
if maxHold and most < tonumber(ARGV[2]) then ARGV[2] = string.format('%.0f', math.max(1, most)) end
local answer = plain()
if answer ~= 1 then return answer end
return { 1, left(), most }
`
    )
  )

/**
 * ARGV: token; and where its lease was used, holdAtLeast (ms, or 0) and the fencing token. Otherwise its
 * grant did not come to its caller: its tick can be granted again, and the key is not held.
 *
 * Where the time of holdAtLeast is not over, the key is held until then, by the token with a mark: so it is
 * nobody's, and a release that is sent again finds that it was its own. It is never held for longer than
 * that from the release on (the server's clock can have been set back).
 */
const mark = "!"

const keeping = `
if ARGV[2] and ARGV[2] ~= '0' then
  local token = redis.pcall('GET', KEYS[1])
  if token == ARGV[1] .. '${mark}' then return 1 end
  local rest = leftOf(ARGV[2], ARGV[3])
  if token == ARGV[1] and rest > 0 then
    redis.call('SET', KEYS[1], ARGV[1] .. '${mark}', 'PX', string.format('%.0f', rest))
    return 1
  end
end
return plain()
`

const givingTickBack = `
if not ARGV[2] then
  local _, by, before = lastTick()
  if by == ARGV[1] and before == '' then
    redis.call('DEL', KEYS[5])
  elseif by == ARGV[1] then
    redis.call('SET', KEYS[5], before .. ' - ', 'KEEPTTL')
  end
end
`

// (by one key a tick cannot be given back: so what was not used stays until all keys are in one place)
const releasing = orByOneKey(
  script(lock.release.name, as("plain", lock.release), ending, lastTick, givingTickBack, keeping),
  script("releaseByOneKey", as("plain", lock.release.byOneKey!.script), ending, keeping),
  3
)

/** The same, of what several can hold: the holder's entry is that of the token with the mark. */
const releasingSeveral = (plain: Script, kind: string): Script =>
  orByOneKey(
    script(
      plain.name,
      clock,
      time,
      isOurs,
      record(kind),
      holders(kind),
      as("plain", plain),
      `
if not ARGV[2] or ARGV[2] == '0' then return plain() end
local left = ARGV[1] .. '${mark}'
local ok, there = pcall(endOf, left)
if not ok then return plain() end
if there then return 1 end
local hold = tonumber(ARGV[2])
local rest = math.min(hold, math.floor(tonumber(ARGV[3]) / 1000) + hold - millis)
local known = rest > 0 and endOf(ARGV[1]) and redis.call('HGET', KEYS[5], ARGV[1])
if not known then return plain() end
local fence, claim = string.match(known, '^(%d+) (.*)$')
drop({ ARGV[1] })
all()
put(left, fence, claim, rest)
keep()
return 1
`
    ),
    script(
      "releaseByOneKey",
      as("plain", plain.byOneKey!.script),
      endingOfSeveral,
      `
if not ARGV[2] or ARGV[2] == '0' then return plain() end
-- what it has in use stands beside the key, under this token
local rest = leftOf(ARGV[2], ARGV[3])
local ok, ends = pcall(left)
if rest <= 0 or not ok or ends <= 0 then return plain() end
shorten(rest)
return 1
`
    )
  )

/**
 * ARGV: those of the plain script, which are four; then the fencing token of the first holder, maxHold and
 * holdAtLeast (ms), which may be empty. Both are counted from that one's grant.
 *
 * Answers as a grant does; and 4, where maxHold is over.
 */
const adopting = (plain: Script, ending: string): Script =>
  script(
    plain.name,
    as("plain", plain),
    ending,
    `
-- (no more than all of it: the server's clock can have been set back)
local function restOf(hold)
  return hold ~= '' and math.min(tonumber(hold), leftOf(hold, ARGV[5]))
end

local most, least = restOf(ARGV[6]) or -1, restOf(ARGV[7]) or 0
if ARGV[6] ~= '' and most <= 0 then return 4 end
local ttl = math.max(tonumber(ARGV[2]), least)
if most > 0 then ttl = math.min(ttl, most) end
ARGV[2] = string.format('%.0f', ttl)
local answer = plain()
if type(answer) ~= 'string' then return answer end
return { answer, left(), most }
`
  )

const ofSeveral = (
  {
    acquire,
    adopt,
    heartbeat,
    release,
    renew,
    reshare
  }: Record<"acquire" | "adopt" | "heartbeat" | "release" | "renew" | "reshare", Script>,
  kind: string
) => ({
  acquire: granting(acquire, release, endingOfSeveral),
  heartbeat: granting(heartbeat, release, endingOfSeveral),
  renew: renewing(renew, 2, endingOfSeveral),
  reshare: renewing(reshare, 3, endingOfSeveral),
  release: releasingSeveral(release, kind),
  adopt: adopting(adopt, endingOfSeveral)
})

export const lockScripts = {
  acquire: granting(lock.acquire, lock.release, endingOfLock),
  heartbeat: granting(lock.heartbeat, lock.release, endingOfLock),
  renew: renewing(lock.renew, 3, endingOfLock),
  reshare: undefined,
  release: releasing,
  adopt: adopting(lock.adopt, endingOfLock)
}

export const semaphoreScripts = ofSeveral(semaphore, "semaphore/1 ")

export const readWriteScripts = ofSeveral(semaphore.readWrite, "rwlock/1 ")
