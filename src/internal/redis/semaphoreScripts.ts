/**
 * The scripts of kinds that several can hold at once: semaphores, and what else has a capacity. What
 * KEYS and claims are is said in `lua.ts`. Each operation takes six keys and five arguments (token, ttl,
 * claim, window, ttl of a grant by handoff), empty where it needs none, so that any of them can travel
 * together.
 */
import { holders, holding, time } from "./holders.js"
import { clock, isOurs, queue, record, script } from "./lua.js"

const mark = "semaphore/1 "

/** How many fencing tokens a process gets at most that keeps its share for its next callers. */
const fencingBlock = 256

const lib = [clock, time, isOurs, record(mark), holders, queue(mark)]

const acquireOne = `
local function take()
  local ok, fence = pcall(mint, now, ARGV[a + 3])
  if ok then
    -- a refusal here (a type, an ACL) must not leave anything behind
    local done, why = pcall(put, ARGV[a + 1], fence, ARGV[a + 3], tonumber(ARGV[a + 2]))
    if done then return told(fence) end
    pcall(drop, ARGV[a + 1])
    pcall(keep)
    fence = why
  end
  return type(fence) == 'table' and fence or redis.error_reply(tostring(fence))
end

local function acquire()
  -- (by far the most)
  if redis.call('EXISTS', KEYS[k + 1], KEYS[k + 3], KEYS[k + 5], KEYS[k + 6]) == 0 then
    nobody()
    return take()
  end
  local foreign = look()
  if foreign then
    local why = stranger()
    if why then return why end
  else
    local ends = endOf(ARGV[a + 1])
    if ends then return claimed(ends) end
    -- its ttl has ended, and it comes again
    drop(ARGV[a + 1])
    local other, queued = false, redis.call('EXISTS', KEYS[k + 3]) == 1
    if queued then
      other = serve(now)
      ends = endOf(ARGV[a + 1])
      if ends then return claimed(ends) end
      queued = other or redis.call('EXISTS', KEYS[k + 3]) == 1
    end
    if not queued and room(ARGV[a + 3]) then return take() end
  end
  local later = refusal(redis.call('GET', KEYS[k + 2]) or '')
  if later then return redis.error_reply(later) end
  local rank = join(now)
  if type(rank) == 'table' then return rank end
  return busy(foreign, rank)
end
`

const releaseOne = `
local function release()
  local foreign, only = look()
  if only == ARGV[a + 1] and redis.call('EXISTS', KEYS[k + 3]) == 0 then
    redis.call('DEL', KEYS[k + 1], KEYS[k + 5], KEYS[k + 6])
    return 1
  end
  local mine = not foreign and endOf(ARGV[a + 1])
  if mine then
    drop(ARGV[a + 1])
    keep()
  elseif redis.call('ZREM', KEYS[k + 3], ARGV[a + 1]) == 1 then
    redis.call('HDEL', KEYS[k + 4], ARGV[a + 1])
  end
  if not foreign then serve(now) end
  return mine and 1 or foreign and 2 or 0
end
`

const unlessHeld = `
local function unlessHeld()
  local ok, ends = pcall(endOf, ARGV[a + 1])
  if ok then return ends, 0 end
  if string.find(type(ends) == 'table' and ends.err or tostring(ends), 'WRONGTYPE') then return false, 2 end
  return false, ends
end
`

const renewOne = `
local function renew()
  local ends, why = unlessHeld()
  if not ends then return why end
  extend(ARGV[a + 1], tonumber(ARGV[a + 2]), ends)
  return 1
end
`

/** ARGV: token, ttl, claim, window, ttl of a grant by handoff (the last two empty: it does not wait). */
export const acquire = script("acquire", ...lib, holding, acquireOne, "return acquire()")

/** ARGV: token. */
export const release = script("release", ...lib, releaseOne, "return release()")

/** ARGV: token, ttl. 1: renewed. 0: gone. 2: something else stands there. */
export const renew = script(
  "renew",
  clock,
  time,
  isOurs,
  record(mark),
  holders,
  holding,
  unlessHeld,
  renewOne,
  "return renew()"
)

/** ARGV: token. */
export const verify = script(
  "verify",
  clock,
  time,
  unlessHeld,
  `
local ends, why = unlessHeld()
return ends and 1 or why
`
)

/** ARGV: token, ttl, claim, window, ttl of a grant by handoff. As of a lock. */
export const heartbeat = script(
  "heartbeat",
  ...lib,
  holding,
  `
local foreign = look()
local ends = not foreign and endOf(ARGV[1])
if ends then return claimed(ends) end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local why = foreign and stranger()
if why then return why end
local later = refusal(redis.call('GET', KEYS[2]) or '')
if later then return redis.error_reply(later) end
stand(now)
if not foreign then
  serve(now)
  ends = endOf(ARGV[1])
  if ends then return claimed(ends) end
end
return busy(foreign, redis.call('ZRANK', KEYS[3], ARGV[1]))
`
)

/**
 * ARGV: token, ttl, claim, the fencing token of the holder's entry, how many places of its process are in
 * the queue. As of a lock: if another process waits, the share is given back, and who waits is served
 * (1). If nobody does, it is kept for the next callers of this process: answered is a grant with a new
 * fencing token, and the last one of those from there on that are for this process. The entry has the
 * first of them, so that nobody is told of a smallest fencing token that a caller here is below.
 *
 * A copy of a pass that has kept the share says the same first one, and that it is the only one.
 */
export const pass = script(
  "pass",
  ...lib,
  holding,
  `
local foreign = look()
local ends = not foreign and endOf(ARGV[1])
local known = ends and redis.call('HGET', KEYS[5], ARGV[1])
if not known then
  if not foreign then serve(now) end
  return foreign and 2 or 0
end
local fence, ttl = string.match(known, '^%d+'), tonumber(ARGV[2])
if fence ~= ARGV[4] then
  extend(ARGV[1], ttl, ends)
  return told(fence) .. ':' .. fence
end
if redis.call('ZCARD', KEYS[3]) > tonumber(ARGV[5]) then
  drop(ARGV[1])
  keep()
  serve(now)
  return 1
end
local before = tonumber(string.match(redis.call('GET', KEYS[2]) or '', '^%d+')) or 0
before = math.max(before, tonumber(fence))
local most = mint(now, ARGV[3], before)
local first = string.format('%.0f', math.max(before + 1, tonumber(most) - ${fencingBlock - 1}))
if redis.call('ZREM', KEYS[6], ofFence(fence, ARGV[1])) == 1 then
  redis.call('ZADD', KEYS[6], 0, ofFence(first, ARGV[1]))
end
local claim = string.gsub(ARGV[3], '^(%l+/1 )%d+', '%1' .. string.format('%.0f', longest(known)))
redis.call('HSET', KEYS[5], ARGV[1], first .. ' ' .. claim)
extend(ARGV[1], ttl, ends)
return told(first) .. ':' .. most
`
)

/**
 * Several of them in one call, each by itself: what fails is answered with nothing, and asked again.
 *
 * KEYS: six for each. ARGV: for each `acquire`, `renew` or `release` and its five arguments.
 */
export const batch = script(
  "batch",
  ...lib,
  holding,
  acquireOne,
  releaseOne,
  unlessHeld,
  renewOne,
  `
local operations, answers = { acquire = acquire, release = release, renew = renew }, {}
for i = 1, #KEYS / 6 do
  k, a, read = 6 * (i - 1), 6 * (i - 1) + 1, nil
  local ok, answer = pcall(operations[ARGV[a]])
  answers[i] = ok and not (type(answer) == 'table' and answer.err) and answer
end
return answers
`
)
