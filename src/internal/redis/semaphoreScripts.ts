/**
 * The scripts of kinds that several can hold at once: semaphores, and what else has a capacity. What
 * KEYS and claims are is said in `lua.ts`. Each operation takes six keys and five arguments (token, ttl,
 * claim, window, ttl of a grant by handoff), empty where it needs none, so that any of them can travel
 * together.
 */
import { clock, fencingBlock, isOurs, queue, record, script } from "./lua.js"

const mark = "semaphore/1 "

/** So many holders whose ttl has ended are removed in one call; the rest counts until the next one. */
const mostRemoved = 32

const holders = `
-- What a claim (or the entry of a holder, from there on) needs, and within which limit.
local function shareOf(claim)
  local share, limit = string.match(claim, '%l+/1 %d+ (%d+) (%d+) ')
  return tonumber(share), tonumber(limit)
end

-- In the index: of 16 digits, and of 7.
local function ofFence(fence, token)
  return 'f' .. string.rep('0', 16 - #fence) .. fence .. ' ' .. token
end

local function ofLimit(limit, token)
  return string.format('l%07d ', limit) .. token
end

-- The key lives until the last of its holders' ttls ends, and what stands beside it does so, too.
local function keep()
  local last = redis.call('ZRANGE', KEYS[k + 1], -1, -1, 'WITHSCORES')[2]
  if not last then return redis.call('DEL', KEYS[k + 5], KEYS[k + 6]) end
  redis.call('PEXPIREAT', KEYS[k + 1], last)
  redis.call('PEXPIREAT', KEYS[k + 5], last)
  redis.call('PEXPIREAT', KEYS[k + 6], last)
end

-- Holds it no more.
local function drop(token)
  local known = redis.call('HGET', KEYS[k + 5], token)
  if known then
    local share, limit = shareOf(known)
    redis.call('ZREM', KEYS[k + 6], ofFence(string.match(known, '^%d+'), token), ofLimit(limit, token))
    redis.call('HINCRBY', KEYS[k + 5], 'in-use', -share)
    redis.call('HDEL', KEYS[k + 5], token)
  end
  redis.call('ZREM', KEYS[k + 1], token)
end

local function millis(now)
  return math.floor(now / 1000)
end

-- What stands at the key where it is not ours, after holders whose ttl has ended were removed.
local function look(now)
  local kind = redis.call('TYPE', KEYS[k + 1]).ok
  if kind == 'zset' then
    local gone = redis.call('ZRANGEBYSCORE', KEYS[k + 1], '-inf', string.format('%.0f', millis(now)), 'LIMIT', 0, ${mostRemoved})
    for i = 1, #gone do drop(gone[i]) end
    if #gone > 0 then keep() end
  elseif kind == 'none' then
    -- (somebody may have deleted the key alone)
    redis.call('DEL', KEYS[k + 5], KEYS[k + 6])
  else
    return kind
  end
end

local function holds(now, token)
  local ends = redis.call('ZSCORE', KEYS[k + 1], token)
  return ends and tonumber(ends) > millis(now)
end

-- The smallest limit of all holders.
local function leastLimit()
  local least = redis.call('ZRANGEBYLEX', KEYS[k + 6], '[l', '(m', 'LIMIT', 0, 1)[1]
  return least and tonumber(string.sub(least, 2, 8)) or 0
end

-- Whether there is room for a claim; without one, for the smallest.
local function room(claim)
  local used = tonumber(redis.call('HGET', KEYS[k + 5], 'in-use') or 0)
  if used == 0 then return true end
  local least = leastLimit()
  if not claim then return used < least end
  local share, limit = shareOf(claim)
  return used + share <= math.min(limit, least)
end

local function put(token, fence, claim, ttl, now)
  local share, limit = shareOf(claim)
  redis.call('ZADD', KEYS[k + 1], string.format('%.0f', millis(now) + ttl), token)
  redis.call('HSET', KEYS[k + 5], token, fence .. ' ' .. claim)
  redis.call('HINCRBY', KEYS[k + 5], 'in-use', share)
  redis.call('ZADD', KEYS[k + 6], 0, ofFence(fence, token), 0, ofLimit(limit, token))
  keep()
end

-- A grant, as it is told: its fencing token, and the smallest fencing token and limit of all holders.
local function told(fence)
  local least = redis.call('ZRANGEBYLEX', KEYS[k + 6], '[f', '(g', 'LIMIT', 0, 1)[1]
  least = least and string.format('%.0f', tonumber(string.sub(least, 2, 17))) or fence
  return fence .. ':' .. least .. ':' .. leastLimit()
end
`

const lib = [clock, isOurs, record(mark), holders, queue(mark)]

const holding = `
-- The end of a holder's ttl: never earlier than it is, but where it is further away than the longest ttl
-- that was asked for (the server's clock was set back).
local function extend(now, token, ttl)
  local known = redis.call('HGET', KEYS[k + 5], token)
  local most = math.max(ttl, known and longest(known) or 0)
  local ends, left = millis(now) + ttl, tonumber(redis.call('ZSCORE', KEYS[k + 1], token)) - millis(now)
  if left > most then ends = millis(now) + most elseif left > ttl then ends = millis(now) + left end
  redis.call('ZADD', KEYS[k + 1], string.format('%.0f', ends), token)
  keep()
  return known, most
end

-- Writes down the longest ttl, where it is longer than what stands there.
local function note(known, most, token)
  if not known or longest(known) == most then return end
  redis.call('HSET', KEYS[k + 5], token,
    (string.gsub(known, '^(%d+ %l+/1 )%d+', '%1' .. string.format('%.0f', most))))
end

-- For a holder: the full ttl, and what it was granted with.
local function claimed(now)
  local known, most = extend(now, ARGV[a + 1], tonumber(ARGV[a + 2]))
  note(known, most, ARGV[a + 1])
  return told(string.match(known, '^%d+'))
end

-- As of a lock: of the holder whose ttl ends first; then the number of the last grant, and the smallest
-- limit of all holders.
local function busy(now, foreign, rank)
  local time = string.format('%.0f', now)
  local known = redis.call('GET', KEYS[k + 2]) or ''
  local last = string.match(known, '^%d+') or '0'
  if foreign then return { redis.call('PTTL', KEYS[k + 1]), 0, known, time, rank, last, 0 } end
  local first, ends = unpack(redis.call('ZRANGE', KEYS[k + 1], 0, 0, 'WITHSCORES'))
  if not first then return { 0, 1, known, time, rank, last, 0 } end
  known = redis.call('HGET', KEYS[k + 5], first) or ''
  return { math.max(0, ends - millis(now)), 1, known, time, rank, last, leastLimit() }
end

-- Why it cannot be had: what stands there is of another kind. A foreign program's key is waited for.
local function stranger(foreign)
  if not foreign then return end
  local token = redis.pcall('GET', KEYS[k + 1])
  if type(token) == 'table' then return token end
  if token and isOurs(token) then return otherKind('lock', 'held') end
end
`

const acquireOne = `
local function acquire()
  local now = micros()
  local foreign = look(now)
  if not foreign and holds(now, ARGV[a + 1]) then return claimed(now) end
  local why = stranger(foreign)
  if why then return why end
  local queued = redis.call('EXISTS', KEYS[k + 3]) == 1
  if queued and not foreign then
    local other = serve(now)
    if holds(now, ARGV[a + 1]) then return claimed(now) end
    queued = other or redis.call('EXISTS', KEYS[k + 3]) == 1
  end
  if not queued and not foreign and room(ARGV[a + 3]) then
    local ok, fence = pcall(mint, now, ARGV[a + 3])
    if ok then
      -- a refusal here (a type, an ACL) must not leave anything behind
      local done, why = pcall(put, ARGV[a + 1], fence, ARGV[a + 3], tonumber(ARGV[a + 2]), now)
      if done then return told(fence) end
      pcall(drop, ARGV[a + 1])
      fence = why
    end
    return type(fence) == 'table' and fence or redis.error_reply(tostring(fence))
  end
  local later = refusal(redis.call('GET', KEYS[k + 2]) or '')
  if later then return redis.error_reply(later) end
  local rank = join(now)
  if type(rank) == 'table' then return rank end
  return busy(now, foreign, rank)
end
`

const releaseOne = `
local function release()
  local now = micros()
  local foreign, mine = look(now), false
  if not foreign then
    mine = holds(now, ARGV[a + 1])
    if mine then
      drop(ARGV[a + 1])
      keep()
    end
  end
  if not mine and redis.call('ZREM', KEYS[k + 3], ARGV[a + 1]) == 1 then
    redis.call('HDEL', KEYS[k + 4], ARGV[a + 1])
  end
  if not foreign then serve(now) end
  return mine and 1 or foreign and 2 or 0
end
`

const renewOne = `
local function renew()
  local now = micros()
  local ok, held = pcall(holds, now, ARGV[a + 1])
  if not ok then
    if string.find(type(held) == 'table' and held.err or tostring(held), 'WRONGTYPE') then return 2 end
    return held
  end
  if not held then return 0 end
  local known, most = extend(now, ARGV[a + 1], tonumber(ARGV[a + 2]))
  note(known, most, ARGV[a + 1])
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
  record(mark),
  holders,
  holding,
  renewOne,
  "return renew()"
)

/** ARGV: token. */
export const verify = script(
  "verify",
  clock,
  holders,
  `
local ok, held = pcall(holds, micros(), ARGV[1])
if ok then return held and 1 or 0 end
if string.find(type(held) == 'table' and held.err or tostring(held), 'WRONGTYPE') then return 2 end
return held
`
)

/** ARGV: token, ttl, claim, window, ttl of a grant by handoff. As of a lock. */
export const heartbeat = script(
  "heartbeat",
  ...lib,
  holding,
  `
local now = micros()
local foreign = look(now)
if not foreign and holds(now, ARGV[1]) then return claimed(now) end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local why = stranger(foreign)
if why then return why end
local later = refusal(redis.call('GET', KEYS[2]) or '')
if later then return redis.error_reply(later) end
stand(now)
if not foreign then
  serve(now)
  if holds(now, ARGV[1]) then return claimed(now) end
end
return busy(now, foreign, redis.call('ZRANK', KEYS[3], ARGV[1]))
`
)

/**
 * ARGV: token, ttl, claim, the last fencing token that is reserved for this tenure, how many places of
 * its process are in the queue, the first fencing token that is reserved. As of a lock: if another
 * process waits, the share is given back, and who waits is served (1). If nobody does, it is kept for
 * the next caller of this process, and answered is a grant with a new fencing token, and the first of
 * those up to it that are reserved now. That is the one that others must know of: a floor above it would
 * shut out its holder.
 */
export const pass = script(
  "pass",
  ...lib,
  holding,
  `
local now = micros()
local foreign = look(now)
if foreign or not holds(now, ARGV[1]) then
  if not foreign then serve(now) end
  return foreign and 2 or 0
end
local known = redis.call('HGET', KEYS[5], ARGV[1])
if string.match(known, '^%d+') == ARGV[6] and redis.call('ZCARD', KEYS[3]) > tonumber(ARGV[5]) then
  drop(ARGV[1])
  keep()
  serve(now)
  return 1
end
local _, most = extend(now, ARGV[1], tonumber(ARGV[2]))
local before = tonumber(string.match(redis.call('GET', KEYS[2]) or '', '^%d+')) or 0
before = math.max(before, tonumber(ARGV[4]))
local claim = string.gsub(ARGV[3], '^(%l+/1 )%d+', '%1' .. string.format('%.0f', most))
local fence = mint(now, claim, before)
local first = string.format('%.0f', math.max(before + 1, tonumber(fence) - ${fencingBlock - 1}))
redis.call('ZREM', KEYS[6], ofFence(string.match(known, '^%d+'), ARGV[1]))
redis.call('ZADD', KEYS[6], 0, ofFence(first, ARGV[1]))
redis.call('HSET', KEYS[5], ARGV[1], first .. ' ' .. claim)
return told(fence) .. ':' .. first
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
  renewOne,
  `
local operations, answers = { acquire = acquire, release = release, renew = renew }, {}
for i = 1, #KEYS / 6 do
  k, a = 6 * (i - 1), 6 * (i - 1) + 1
  local ok, answer = pcall(operations[ARGV[a]])
  answers[i] = ok and not (type(answer) == 'table' and answer.err) and answer
end
return answers
`
)
