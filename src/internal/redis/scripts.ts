/**
 * The scripts of a mutual exclusion lock. Every script can be sent twice and has the same effect as
 * once; every key that it touches is declared; values come as ARGV and never into the text. What KEYS
 * and claims are is said in `lua.ts`.
 */
import {
  clock,
  fencingBlock,
  isOurs,
  leastTime,
  orByOneKey,
  queue,
  record,
  script,
  whyNot
} from "./lua.js"

export type { Script } from "./lua.js"

export const mark = "lock/1 "

/** The lock is whatever one token holds: room for one, which is put in place of whoever held it. */
export const holder = `
local taken = false

local function room()
  return not taken
end

-- Answers the fencing token, and how many before it belong to the same tenure: of the time since the last
-- one, where the asker held the lock all that time.
local function grant(token, fence, claim, ttl, last, held, now)
  redis.call('SET', KEYS[1], token, 'PX', ttl)
  taken = { tonumber(ttl), fence .. ' ' .. claim }
  local more = held and last > 0 and math.min(now - last, ${fencingBlock}) - 1 or 0
  return more > 0 and fence .. ':' .. more or fence
end
`

const minting = [clock, record(mark)]
const serving = [holder, queue(mark)]
const lib = [...minting, ...serving]

const holding = `
${isOurs}
-- It never shortens: an old command can come late, from a connection that was given up.
local function extend(ttl)
  if redis.call('PTTL', KEYS[1]) < tonumber(ttl) then redis.call('PEXPIRE', KEYS[1], ttl) end
end

-- For whoever has the lock: the full ttl, and the fencing token that it was granted with.
local function claimed(now, known)
  extend(ARGV[2])
  local fence = string.match(known, '^%d+')
  if not fence then return mint(now, ARGV[3]) end
  local before = longest(known)
  if before and before < tonumber(ARGV[2]) then
    redis.call('SET', KEYS[2], fence .. ' ' .. ARGV[3], 'EX', 86400)
  end
  return fence
end

-- What a waiter is told: ms left or -1, whether one of our tokens holds it or is about to, the last
-- record, server time in µs, and how many stand before it (-1: it does not stand in the queue).
local function busy(now, token, known, rank)
  local left, ours = 0, 1
  if token then
    left = redis.call('PTTL', KEYS[1])
    ours = isOurs(token) and 1 or 0
  end
  return { left, ours, known, string.format('%.0f', now), rank }
end

-- The token that holds the lock, or an error: what stands there is not a lock.
local function holderOf(known)
  local token = redis.pcall('GET', KEYS[1])
  if type(token) ~= 'table' then return token end
  local kind = string.match(known, '^%d+ (%l+)/%d+ ')
  if kind and kind ~= 'lock' and string.find(token.err, 'WRONGTYPE') then return otherKind(kind, 'held') end
  return token
end
`

/**
 * ARGV: token, ttl, claim, and for those who wait: window, ttl of a grant by handoff.
 *
 * Free and nobody queued, or ours already: answers the fencing token (a string). Otherwise stands
 * in the queue, if waiting, and answers what is known. A lock that is free while others are queued
 * goes to the first of them.
 */
export const acquire = script(
  "acquire",
  ...minting,
  `
local now = micros()
if redis.call('EXISTS', KEYS[3]) == 0 and redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  -- a refusal here (a type, an ACL) must not leave the lock behind
  local ok, fence = pcall(mint, now, ARGV[3])
  if ok then return fence end
  redis.call('DEL', KEYS[1])
  return type(fence) == 'table' and fence or redis.error_reply(tostring(fence))
end
`,
  ...serving,
  holding,
  `
local known = redis.call('GET', KEYS[2]) or ''
local token = holderOf(known)
if type(token) == 'table' then return token end
if token == ARGV[1] then return claimed(now, known) end
local why = refusal(known)
if why then return redis.error_reply(why) end
if not token then
  local other = serve(now)
  token, known = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or ''
  if token == ARGV[1] then return claimed(now, known) end
  if not token and not other then
    local fence = mint(now, ARGV[3])
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return fence
  end
end
-- (while one of our tokens holds it, no other kind can have come to the queue)
local rank = join(now, token and isOurs(token))
if type(rank) == 'table' then return rank end
return busy(now, token, known, rank)
`
)

/**
 * ARGV: token, ttl, claim, window, ttl of a grant by handoff.
 *
 * Claims a grant that the waiter has not heard of (with the full ttl: answers the fencing token),
 * or refreshes its place, hands a free lock to the first in the queue, and answers what is known.
 * Answers 0 where the waiter stands nowhere. It never enqueues.
 */
export const heartbeat = script(
  "heartbeat",
  ...lib,
  holding,
  `
local now = micros()
local known = redis.call('GET', KEYS[2]) or ''
local token = holderOf(known)
if type(token) == 'table' then return token end
if token == ARGV[1] then return claimed(now, known) end
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 0 end
local why = refusal(known)
if why then return redis.error_reply(why) end
local rank = stand(now)
if not token then
  serve(now)
  token, known = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or ''
  if token == ARGV[1] then return claimed(now, known) end
  rank = redis.call('ZRANK', KEYS[3], ARGV[1])
end
return busy(now, token, known, rank)
`
)

/** `otherwise`: what is answered to a token that does not hold the lock. */
const unlessOurs = (otherwise = "token and 2 or 0") => `
local token = redis.pcall('GET', KEYS[1])
if type(token) == 'table' then
  if not string.find(token.err, 'WRONGTYPE') then return token end
  -- a lock of another kind stands there
  token = true
end
if token ~= ARGV[1] then return ${otherwise} end
`

/**
 * KEYS: lock. ARGV: token, ttl. As \`renew\`, which knows more: here a ttl that is too long stays so.
 */
const renewByOneKey = script(
  "renewByOneKey",
  unlessOurs(),
  `
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
`
)

/** KEYS: lock. ARGV: token. */
const verifyByOneKey = script("verifyByOneKey", unlessOurs(), "return 1")

/** KEYS: lock. ARGV: token. Deletes it, and serves nobody: whoever waits finds it free. Answers as \`release\`. */
const releaseByOneKey = script(
  "releaseByOneKey",
  unlessOurs(),
  "redis.call('DEL', KEYS[1])",
  "return 1"
)

/**
 * KEYS: lock, record, what was revoked. ARGV: token, ttl, and `1` if that may be longer than what the
 * record says, or the record is to live for another day. Check and expire. 1: renewed. 0: the lock is gone.
 * 2: another token. 3: it was revoked.
 *
 * It never makes the ttl shorter than the longest of the tenure: sent again behind a `pass` to a caller
 * with a longer one, it would. What is longer than that was made so by a server's clock that was set
 * back, and would outlive a crash by as much. The record is only looked at where one of these may be so.
 */
export const renew = orByOneKey(
  script(
    "renew",
    whyNot(3),
    unlessOurs("whyNot(token and 2 or 0)"),
    `
local left, ttl = redis.call('PTTL', KEYS[1]), tonumber(ARGV[2])
if left <= ttl then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  if not ARGV[3] then return 1 end
end
local known = redis.pcall('GET', KEYS[2])
if type(known) ~= 'string' then return 1 end
local fence, longest, owner = string.match(known, '^(%d+) ${mark}(%d+) (.*)$')
if not fence then return 1 end
local more = tonumber(longest) < ttl
if more then longest = ARGV[2] end
if more or ARGV[3] then redis.call('SET', KEYS[2], fence .. ' ${mark}' .. longest .. ' ' .. owner, 'EX', 86400) end
if left > tonumber(longest) then redis.call('PEXPIRE', KEYS[1], longest) end
return 1
`
  ),
  renewByOneKey
)

/** KEYS: lock, what was revoked. ARGV: token. Check. Answers as `renew`. */
export const verify = orByOneKey(
  script("verify", whyNot(2), unlessOurs("whyNot(token and 2 or 0)"), "return 1"),
  verifyByOneKey
)

/**
 * ARGV: token. If ours: hands the lock to the first live waiter, or deletes it. If not: leaves the
 * queue. So it also cancels a wait, whether or not a grant has crossed the cancellation.
 */
export const release = orByOneKey(
  script(
    "release",
    `
local token = redis.pcall('GET', KEYS[1])
if token == ARGV[1] and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('DEL', KEYS[1])
  return 1
end
if type(token) == 'table' and not string.find(token.err, 'WRONGTYPE') then return token end
`,
    ...lib,
    `
if token == ARGV[1] then
  serve(micros(), true)
  if not taken then redis.call('DEL', KEYS[1]) end
  return 1
end
if redis.call('ZREM', KEYS[3], ARGV[1]) == 1 then redis.call('HDEL', KEYS[4], ARGV[1]) end
if not token then serve(micros()) end
return token and 2 or 0
`
  ),
  releaseByOneKey
)

/**
 * ARGV: token, ttl, claim, the last fencing token that this tenure is known to have; and of the place that
 * the next caller here has in the queue, if another process waits: token, window, ttl of a grant by
 * handoff. If ours, and another process waits: hands the lock over (1, or with a place that was given: what
 * it is told by an acquire). If nobody does: keeps it for other callers of this
 * process, and answers a new fencing token. All numbers between the last one and this are theirs as
 * well: that time has passed, and nobody else can be granted one of them any more. So a process has
 * many of them for one question, and none that is ahead of the server's time.
 *
 * A copy of a pass that has kept the lock does so, too, whoever waits: its caller may hold the lease. And
 * only the copy that hands it over puts the place into the queue.
 *
 * By one key it cannot be kept, for want of a fencing token: it is given back.
 */
export const pass = orByOneKey(
  script(
    "pass",
    unlessOurs(),
    ...lib,
    holding,
    `
local now = micros()
local known = redis.call('GET', KEYS[2]) or ''
if string.match(known, '^%d+') ~= ARGV[4] then
  -- applied before, and perhaps answered: the lease may be held again
  extend(ARGV[2])
else
  local last, score
  if ARGV[5] then
    last, score = unpack(redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES'))
    -- (before the first one leaves: an empty queue would be made anew)
    if last then enlist(now, ARGV[5], ARGV[6], ARGV[7], score) end
  end
  local other = (last or not ARGV[5]) and serve(now, true)
  if not taken and other then redis.call('DEL', KEYS[1]) end
  if taken or other then
    if not last then return 1 end
    local left, record = unpack(taken or { 0, known })
    return { left, 1, record, string.format('%.0f', now), redis.call('ZRANK', KEYS[3], ARGV[5]) or -1 }
  end
  -- nobody was served, behind more dead waiters than a call passes over: kept, and without a place
  if last and redis.pcall('ZREM', KEYS[3], ARGV[5]) == 1 then redis.call('HDEL', KEYS[4], ARGV[5]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local claim, before = ARGV[3], longest(known)
if before and before > tonumber(ARGV[2]) then
  claim = string.gsub(claim, '^(%l+/1 )%d+', '%1' .. string.format('%.0f', before))
end
return mint(now, claim, tonumber(ARGV[4]))
`
  ),
  releaseByOneKey
)

/**
 * KEYS: all four, what was revoked. ARGV: token, ttl, claim, the token with which the lock was handed over. If
 * that one holds it, the new one does from here on, and the fencing token is answered: nobody was in between.
 * Otherwise as `verify` of that one. A copy of it finds its own token.
 */
export const adopt = script(
  "adopt",
  ...minting,
  holding,
  whyNot(5, 4),
  `
local now = micros()
local token = redis.pcall('GET', KEYS[1])
if type(token) == 'table' then
  if not string.find(token.err, 'WRONGTYPE') then return token end
  token = true
end
if token == ARGV[1] then return claimed(now, redis.call('GET', KEYS[2]) or '') end
if token ~= ARGV[4] then return whyNot(token and 2 or 0) end
local fence = mint(now, ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence
`
)

/**
 * Several releases, renewals, and acquires of free locks in one call: what needs the queue, is not ours,
 * or fails, is answered with nothing and asked again by itself, so that one caller's trouble stays its own.
 *
 * KEYS: lock, queue of each release; lock of each renewal; lock, queue, record of each acquire.
 * ARGV: number of releases, of renewals, of acquires; token of each release; token, ttl of each renewal;
 * token, ttl, claim of each acquire.
 */
export const batch = script(
  "batch",
  `
local call, answers = redis.pcall, {}
local n, m, acquires = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 1, n do
  if call('GET', KEYS[2 * i - 1]) == ARGV[3 + i] and call('EXISTS', KEYS[2 * i]) == 0 and call('DEL', KEYS[2 * i - 1]) == 1 then
    answers[i] = 1
  else
    answers[i] = false
  end
end
local k, a = 2 * n, n + 3
for i = n + 1, n + m do
  local ttl, answer = ARGV[a + 2], false
  local token = call('GET', KEYS[k + 1])
  if token == ARGV[a + 1] then
    local left = call('PTTL', KEYS[k + 1])
    if type(left) == 'number' and left <= tonumber(ttl) and call('PEXPIRE', KEYS[k + 1], ttl) == 1 then answer = 1 end
  end
  answers[i] = answer
  k, a = k + 1, a + 2
end
if acquires == 0 then return answers end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if now < ${leastTime} then return answers end
local fence = string.format('%.0f', now)
for i = n + m + 1, n + m + acquires do
  local answer = false
  if call('EXISTS', KEYS[k + 2]) == 0 then
    local set = call('SET', KEYS[k + 1], ARGV[a + 1], 'NX', 'PX', ARGV[a + 2])
    if set and set.ok then
      local claim = ' ' .. ARGV[a + 3]
      local known = call('SET', KEYS[k + 3], fence .. claim, 'EX', 86400, 'GET')
      if not known then
        answer = fence
      elseif type(known) == 'table' then
        call('DEL', KEYS[k + 1])
      elseif string.sub(known, 17, ${17 + mark.length}) ~= ' ${mark}' and tonumber(string.match(known, '^%d+ %l+/(%d+) ') or 0) > 1 then
        call('SET', KEYS[k + 3], known, 'EX', 86400)
        call('DEL', KEYS[k + 1])
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
