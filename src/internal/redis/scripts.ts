/**
 * The Lua that runs on the server. Every script can be sent twice and has the same effect as once;
 * every key that it touches is declared; values come as ARGV and never into the text.
 *
 * KEYS[1]  the lock: a plain string that holds the owner's token, with a ttl
 * KEYS[2]  the record of the last grant, `<fencing token> <claim>`, kept for a day after it
 * KEYS[3]  the queue: a sorted set of waiters' tokens, by arrival
 * KEYS[4]  what is known of each waiter: `<last heartbeat> <window> <ttl of a grant> <claim>`, in ms
 *
 * A claim is `lock/1 <ttl> <owner>`: the kind of lock and the version of this format, the longest ttl
 * that was asked for with the token, a description. (Before there were versions: the owner alone.)
 * A record of a later version is left as it is, and so is a waiter of one, or of another kind.
 */
import { createHash } from "node:crypto"
import { tokenMark } from "../common/token.js"

export interface Script {
  readonly name: string
  readonly lua: string
  readonly sha: string
}

const script = (name: string, ...parts: ReadonlyArray<string>): Script => {
  const lua = parts.join("\n")
  return { name, lua, sha: createHash("sha1").update(lua).digest("hex") }
}

/** How a claim of this kind and version begins. */
const claimMark = "lock/1 "

/** Queue and waiters outlive the longest claim window (3 s), so that no dead process leaves them. */
const queueTtl = 10_000

const lib = `
local lock, record, queue, waiters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function micros()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function claimOf(ttl, owner)
  return '${claimMark}' .. ttl .. ' ' .. owner
end

-- Why a record is left alone, if it was written by a later version.
local function refusal(known)
  -- (by far the most, and a pattern costs as much as all else here)
  if string.sub(known, 17, 24) == ' ${claimMark}' then return end
  local kind, version = string.match(known, '^%d+ (%l+)/(%d+) ')
  if version and tonumber(version) > 1 then
    return 'LATERVERSION The record of this lock is of a later version of this library (' ..
      kind .. '/' .. version .. ', and this one knows ${claimMark.trim()})'
  end
end

-- A fencing token: max(last + 1, server time), where the asker may know of a last one.
local function mint(now, claim, least)
  local fence = string.format('%.0f', now)
  local known = redis.call('SET', record, fence .. ' ' .. claim, 'EX', 86400, 'GET')
  if not known and not least then return fence end
  known = known or ''
  local why = refusal(known)
  if why then
    redis.call('SET', record, known, 'EX', 86400)
    error(why, 0)
  end
  local last = math.max(tonumber(string.match(known, '^%d+')) or 0, least or 0)
  if last >= now then
    fence = string.format('%.0f', last + 1)
    redis.call('SET', record, fence .. ' ' .. claim, 'EX', 86400)
  end
  return fence
end

-- Sets the first live waiter's token in place of whatever the lock holds, and tells its process.
-- Answers nil, true where somebody lives who is not for this version to serve, and asks by itself.
local function serve(now)
  while true do
    local first, place = unpack(redis.call('ZPOPMIN', queue))
    if not first then return nil end
    local known = redis.call('HGET', waiters, first) or ''
    local beat, window, ttl, claim = string.match(known, '^(%d+) (%d+) (%d+) (.*)$')
    if beat and now / 1000 - beat <= tonumber(window) then
      local form, fence = string.match(claim, '^%l+/%d+ '), nil
      local ok = not form or form == '${claimMark}'
      if ok then ok, fence = pcall(mint, now, claim) end
      if not ok then
        redis.call('ZADD', queue, place, first)
        return nil, true
      end
      redis.call('HDEL', waiters, first)
      redis.call('SET', lock, first, 'PX', ttl)
      redis.pcall('PUBLISH', string.match(first, '^([^.]*)'), first .. ' ' .. fence .. ' ' .. ttl .. ' ' .. lock)
      return first, fence
    end
    redis.call('HDEL', waiters, first)
  end
end

-- What a waiter is told: ms left or -1, whether one of our tokens holds it or is about to, the last
-- record, server time in µs, and how many stand before it (-1: it does not stand in the queue).
local function busy(now, token, known, rank)
  local left, ours = 0, 1
  if token then
    left = redis.call('PTTL', lock)
    ours = string.sub(token, 1, ${tokenMark.length}) == '${tokenMark}' and 1 or 0
  end
  return { left, ours, known, string.format('%.0f', now), rank }
end

local function stand(now, window, ttl)
  local known = string.format('%.0f', now / 1000) .. ' ' .. window .. ' ' .. ttl .. ' ' .. claimOf(ARGV[2], ARGV[3])
  redis.call('HSET', waiters, ARGV[1], known)
  redis.call('PEXPIRE', queue, ${queueTtl})
  redis.call('PEXPIRE', waiters, ${queueTtl})
  return redis.call('ZRANK', queue, ARGV[1])
end

-- The longest ttl that the tenure was asked for with.
local function longest(known)
  return tonumber(string.match(known, '^%d+ ${claimMark}(%d+) '))
end

-- It never shortens: an old command can come late, from a connection that was given up.
local function extend(ttl)
  if redis.call('PTTL', lock) < tonumber(ttl) then redis.call('PEXPIRE', lock, ttl) end
end

-- For whoever has the lock: the full ttl, and the fencing token that it was granted with.
local function claimed(now, known)
  extend(ARGV[2])
  local fence = string.match(known, '^%d+')
  if not fence then return mint(now, claimOf(ARGV[2], ARGV[3])) end
  local before = longest(known)
  if before and before < tonumber(ARGV[2]) then
    redis.call('SET', record, fence .. ' ' .. claimOf(ARGV[2], ARGV[3]), 'EX', 86400)
  end
  return fence
end
`

/**
 * ARGV: token, ttl, owner, and for those who wait: window, ttl of a grant by handoff.
 *
 * Free and nobody queued, or ours already: answers the fencing token (a string). Otherwise stands
 * in the queue, if waiting, and answers what is known. A lock that is free while others are queued
 * goes to the first of them.
 */
export const acquire = script(
  "acquire",
  lib,
  `
local now = micros()
if redis.call('EXISTS', queue) == 0 and redis.call('SET', lock, ARGV[1], 'NX', 'PX', ARGV[2]) then
  -- a refusal here (a type, an ACL) must not leave the lock behind
  local ok, fence = pcall(mint, now, claimOf(ARGV[2], ARGV[3]))
  if ok then return fence end
  redis.call('DEL', lock)
  return type(fence) == 'table' and fence or redis.error_reply(tostring(fence))
end
local token, known = redis.call('GET', lock), redis.call('GET', record) or ''
if token == ARGV[1] then return claimed(now, known) end
local why = refusal(known)
if why then return redis.error_reply(why) end
if not token then
  local first, fence = serve(now)
  if not first and not fence then
    fence = mint(now, claimOf(ARGV[2], ARGV[3]))
    redis.call('SET', lock, ARGV[1], 'PX', ARGV[2])
    return fence
  end
  if first then
    token, known = first, redis.call('GET', record)
    if token == ARGV[1] then return claimed(now, known) end
  end
end
local rank = -1
if ARGV[4] then
  if not redis.call('ZSCORE', queue, ARGV[1]) then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2]
    redis.call('ZADD', queue, string.format('%.0f', math.max(now, (tonumber(last) or 0) + 1)), ARGV[1])
  end
  rank = stand(now, ARGV[4], ARGV[5])
end
return busy(now, token, known, rank)
`
)

/**
 * ARGV: token, ttl, owner, window, ttl of a grant by handoff.
 *
 * Claims a grant that the waiter has not heard of (with the full ttl: answers the fencing token),
 * or refreshes its place, hands a free lock to the first in the queue, and answers what is known.
 * Answers 0 where the waiter stands nowhere. It never enqueues.
 */
export const heartbeat = script(
  "heartbeat",
  lib,
  `
local now = micros()
local token, known = redis.call('GET', lock), redis.call('GET', record) or ''
if token == ARGV[1] then return claimed(now, known) end
if not redis.call('ZSCORE', queue, ARGV[1]) then return 0 end
local why = refusal(known)
if why then return redis.error_reply(why) end
local rank = stand(now, ARGV[4], ARGV[5])
if not token then
  token = serve(now)
  known = redis.call('GET', record) or ''
  if token == ARGV[1] then return claimed(now, known) end
  rank = redis.call('ZRANK', queue, ARGV[1])
end
return busy(now, token, known, rank)
`
)

const unlessOurs = `
local token = redis.call('GET', KEYS[1])
if token ~= ARGV[1] then return token and 2 or 0 end
`

/**
 * KEYS: lock, record. ARGV: token, ttl, and `1` if that may be longer than what the record says. Check
 * and expire. 1: renewed. 0: the lock is gone. 2: another token.
 *
 * It never makes the ttl shorter than the longest of the tenure: sent again behind a `pass` to a caller
 * with a longer one, it would. What is longer than that was made so by a server's clock that was set
 * back, and would outlive a crash by as much. The record is only looked at where one of these may be so.
 */
export const renew = script(
  "renew",
  unlessOurs,
  `
local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])
if left <= ttl then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  if not ARGV[3] then return 1 end
end
local known = redis.pcall('GET', KEYS[2])
if type(known) ~= 'string' then return 1 end
local fence, longest, owner = string.match(known, '^(%d+) ${claimMark}(%d+) (.*)$')
if not fence then return 1 end
if tonumber(longest) < ttl then
  longest = ARGV[2]
  redis.call('SET', KEYS[2], fence .. ' ${claimMark}' .. longest .. ' ' .. owner, 'EX', 86400)
end
if left > tonumber(longest) then redis.call('PEXPIRE', KEYS[1], longest) end
return 1
`
)

/** ARGV: token. Check. */
export const verify = script("verify", unlessOurs, "return 1")

/**
 * ARGV: token. If ours: hands the lock to the first live waiter, or deletes it. If not: leaves the
 * queue. So it also cancels a wait, whether or not a grant has crossed the cancellation.
 */
export const release = script(
  "release",
  `
local token = redis.call('GET', KEYS[1])
if token == ARGV[1] and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
`,
  lib,
  `
if token == ARGV[1] then
  if not serve(micros()) then redis.call('DEL', lock) end
  return 1
end
if redis.call('ZREM', queue, ARGV[1]) == 1 then redis.call('HDEL', waiters, ARGV[1]) end
if not token then serve(micros()) end
return token and 2 or 0
`
)

/**
 * ARGV: token, ttl, owner, the last fencing token that this tenure is known to have. If ours, and
 * another process waits: hands the lock over (1). If nobody does: keeps it for other callers of this
 * process, and answers a new fencing token. All numbers between the last one and this are theirs as
 * well: that time has passed, and nobody else can be granted one of them any more. So a process has
 * many of them for one question, and none that is ahead of the server's time.
 *
 * A copy of a pass that has kept the lock does so, too, whoever waits: its caller may hold the lease.
 */
export const pass = script(
  "pass",
  unlessOurs,
  lib,
  `
local now = micros()
local known = redis.call('GET', record) or ''
if string.match(known, '^%d+') ~= ARGV[4] then
  -- applied before, and perhaps answered: the lease may be held again
  extend(ARGV[2])
else
  local first, other = serve(now)
  if not first and other then redis.call('DEL', lock) end
  if first or other then return 1 end
  redis.call('PEXPIRE', lock, ARGV[2])
end
local ttl = math.max(tonumber(ARGV[2]), longest(known) or 0)
return mint(now, claimOf(string.format('%.0f', ttl), ARGV[3]), tonumber(ARGV[4]))
`
)

/**
 * Several releases, renewals, and acquires of free locks in one call: what needs the queue, or fails,
 * is answered with nothing and asked again by itself, so that one caller's trouble stays its own.
 *
 * KEYS: lock, queue of each release; lock of each renewal; lock, queue, record of each acquire.
 * ARGV: number of releases, of renewals, of acquires; token of each release; token, ttl of each renewal;
 * token, ttl, owner of each acquire.
 */
export const batch = script(
  "batch",
  `
local call, answers = redis.pcall, {}
local n, m, acquires = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, n do
  local lock = KEYS[2 * i - 1]
  if call('GET', lock) == ARGV[3 + i] and call('EXISTS', KEYS[2 * i]) == 0 and call('DEL', lock) == 1 then
    answers[i] = 1
  else
    answers[i] = false
  end
end
local k, a = 2 * n, n + 3
for i = n + 1, n + m do
  local lock, ttl, answer = KEYS[k + 1], ARGV[a + 2], false
  local token = call('GET', lock)
  if token == ARGV[a + 1] then
    local left = call('PTTL', lock)
    if type(left) == 'number' and left <= tonumber(ttl) and call('PEXPIRE', lock, ttl) == 1 then answer = 1 end
  elseif type(token) ~= 'table' then
    answer = token and 2 or 0
  end
  answers[i] = answer
  k, a = k + 1, a + 2
end
if acquires == 0 then return answers end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local fence = string.format('%.0f', now)
for i = n + m + 1, n + m + acquires do
  local lock, answer = KEYS[k + 1], false
  if call('EXISTS', KEYS[k + 2]) == 0 then
    local set = call('SET', lock, ARGV[a + 1], 'NX', 'PX', ARGV[a + 2])
    if set and set.ok then
      local claim = ' ${claimMark}' .. ARGV[a + 2] .. ' ' .. ARGV[a + 3]
      local known = call('SET', KEYS[k + 3], fence .. claim, 'EX', 86400, 'GET')
      if not known then
        answer = fence
      elseif type(known) == 'table' then
        call('DEL', lock)
      elseif string.sub(known, 17, 24) ~= ' ${claimMark}' and tonumber(string.match(known, '^%d+ %l+/(%d+) ') or 0) > 1 then
        call('SET', KEYS[k + 3], known, 'EX', 86400)
        call('DEL', lock)
      else
        local last = tonumber(string.match(known, '^%d+')) or 0
        answer = fence
        if last >= now then
          answer = string.format('%.0f', last + 1)
          call('SET', KEYS[k + 3], answer .. claim, 'EX', 86400)
        end
      end
    end
  end
  answers[i] = answer
  k, a = k + 3, a + 3
end
return answers
`
)

/** KEYS: one. ARGV: a value. Part of the probe (`probe.ts`): it is gone after 10 s. */
export const probeOne = script(
  "probeOne",
  `
redis.call('SET', KEYS[1], ARGV[1], 'PX', 10000)
return 1
`
)

/** KEYS: several, each set by a call of its own. ARGV: the value. 1: this call finds all of them. */
export const probeAll = script(
  "probeAll",
  `
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[1] then return 0 end
end
return 1
`
)
