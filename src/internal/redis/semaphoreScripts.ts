/**
 * The scripts of kinds that several can hold at once: semaphores, and what else has a capacity. What
 * KEYS and claims are is said in `lua.ts`.
 */
import { handoff, holders, holding, time } from "./holders.js"
import { clock, isOurs, orByOneKey, queue, record, script, type Script, whyNot } from "./lua.js"

/**
 * `mark`: how a claim of the kind begins. `shared`: what a process is granted when nobody waits is shared
 * by its callers, so the grant has a block of fencing tokens: answered is also the last of them. Otherwise
 * it is passed on by them, for a while also if others wait, and a grant by handoff has such a block.
 */
const scriptsOf = (mark: string, shared: boolean) => {
  const lib = [clock, time, isOurs, record(mark), holders(mark), handoff(!shared), queue(mark)]

  const acquireOne = `
local function take()
  local ok, fence, last = pcall(mint, now, ARGV[a + 3])
  if ok then
    -- a refusal here (a type, an ACL) must not leave anything behind
    local first = ${shared ? "firstOf(fence, last)" : "fence"}
    local done, why = pcall(put, ARGV[a + 1], first, ARGV[a + 3], tonumber(ARGV[a + 2]))
    if done then return told(first)${shared ? " .. ':' .. fence" : ""} end
    pcall(drop, { ARGV[a + 1] })
    pcall(keep)
    fence = why
  end
  return type(fence) == 'table' and fence or redis.error_reply(tostring(fence))
end

-- What \`take\` does for a key that nobody holds, in a row; nothing, where anything is not as usual.
local stamp

local function begin()
  local fence, token, claim, ttl = stamp, ARGV[a + 1], ARGV[a + 3], ARGV[a + 2]
  local share, limit = string.match(claim, '^%l+/1 %d+ (%d+) (%d+) ')
  local known = redis.call('SET', KEYS[k + 2], fence .. ' ' .. claim, 'EX', 86400, 'GET')
  if known and (string.sub(known, 17, ${17 + mark.length}) ~= ' ${mark}' or string.sub(known, 1, 16) >= fence) then
    redis.call('SET', KEYS[k + 2], known, 'EX', 86400)
    return
  end
  local first = ${shared ? "firstOf(fence, known and tonumber(string.sub(known, 1, 16)) or 0)" : "fence"}
  local ends = string.format('%.0f', millis + ttl)
  redis.call('ZADD', KEYS[k + 1], ends, token)
  redis.call('HSET', KEYS[k + 5], token, first .. ' ' .. claim, 'in-use', share)
  redis.call('PEXPIREAT', KEYS[k + 1], ends)
  redis.call('PEXPIREAT', KEYS[k + 5], ends)
  return first .. ':' .. first .. ':' .. limit${shared ? " .. ':' .. fence" : ""}
end

-- A grant, where nobody waits and there is room; otherwise nothing, and whether the key is not ours.
local function attempt()
  -- (by far the most)
  if redis.call('EXISTS', KEYS[k + 1], KEYS[k + 3], KEYS[k + 5], KEYS[k + 6]) == 0 then
    stamp = stamp or string.format('%.0f', now)
    local ok, answer = pcall(begin)
    if ok and answer then return answer end
    nobody()
    return take()
  end
  if look() then return nil, true end
  local ends, known = endOf(ARGV[a + 1])
  if ends then return claimed(ends) end
  -- its ttl has ended, and it comes again
  if known then drop({ ARGV[a + 1] }) end
  if redis.call('EXISTS', KEYS[k + 3]) == 0 and room(ARGV[a + 3]) then return take() end
end
`

  const releaseOne = `
-- 1, where it holds it and nobody waits; otherwise nothing.
local function leave()
  local ends = redis.pcall('ZSCORE', KEYS[k + 1], ARGV[a + 1])
  if type(ends) ~= 'string' or tonumber(ends) <= millis or redis.call('EXISTS', KEYS[k + 3]) == 1 then return end
  if redis.call('ZCARD', KEYS[k + 1]) == 1 then
    redis.call('DEL', KEYS[k + 1], KEYS[k + 5], KEYS[k + 6])
  else
    drop({ ARGV[a + 1] })
    keep()
  end
  return 1
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

  /** What is done for a holder where the keys beside the first one are at another node. */
  const firstKeyOnly = (name: string, ...parts: ReadonlyArray<string>): Script =>
    script(
      name,
      clock,
      time,
      unlessHeld,
      `
local ends, why = unlessHeld()
if not ends then return why end

local function holdUntil(at)
  redis.call('ZADD', KEYS[1], 'XX', string.format('%.0f', at), ARGV[1])
  redis.call('PEXPIREAT', KEYS[1], redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2])
  return 1
end
`,
      ...parts
    )

  /** KEYS: the first. ARGV: token, ttl. As `renew`; here a ttl that is too long stays so. */
  const renewByOneKey = firstKeyOnly(
    "renewByOneKey",
    "return holdUntil(math.max(ends, millis + ARGV[2]))"
  )

  /** KEYS: the first. ARGV: token. */
  const verifyByOneKey = firstKeyOnly("verifyByOneKey", "return 1")

  /**
   * KEYS: the first. ARGV: token. What it had in use stands beside the key: so the token stays until the next
   * call can remove both, and its ttl has ended. The last one's key is deleted. Answers as `release`.
   */
  const releaseByOneKey = firstKeyOnly(
    "releaseByOneKey",
    "if redis.call('ZCARD', KEYS[1]) == 1 then return redis.call('DEL', KEYS[1]) end",
    "return holdUntil(0)"
  )

  /** ARGV: token, ttl, claim, window, ttl of a grant by handoff (the last two empty: it does not wait). */
  const acquire = script(
    "acquire",
    ...lib,
    holding,
    acquireOne,
    `
local answer, foreign = attempt()
if answer then return answer end
if foreign then
  local why = stranger()
  if why then return why end
elseif redis.call('EXISTS', KEYS[3]) == 1 then
  local other = serve(now)
  local ends = endOf(ARGV[1])
  if ends then return claimed(ends) end
  if not other and redis.call('EXISTS', KEYS[3]) == 0 and room(ARGV[3]) then return take() end
end
local later = refusal(redis.call('GET', KEYS[2]) or '')
if later then return redis.error_reply(later) end
local rank = join(now)
if type(rank) == 'table' then return rank end
return busy(foreign, rank)
`
  )

  /** ARGV: token. */
  const release = script(
    "release",
    ...lib,
    releaseOne,
    `
if leave() then return 1 end
local foreign = look()
local ends = not foreign and endOf(ARGV[1])
if ends then
  drop({ ARGV[1] })
  keep()
elseif redis.call('ZREM', KEYS[3], ARGV[1]) == 1 then
  redis.call('HDEL', KEYS[4], ARGV[1])
end
if not foreign then serve(now, ends) end
return ends and 1 or foreign and 2 or 0
`
  )

  /**
   * KEYS: all six, what was revoked. ARGV: token, ttl. 1: renewed. 0: gone. 2: something else stands there.
   * 3: it was revoked.
   */
  const renew = script(
    "renew",
    clock,
    time,
    isOurs,
    record(mark),
    holders(mark),
    holding,
    unlessHeld,
    renewOne,
    whyNot(7),
    `
local answer = renew()
return answer == 1 and 1 or whyNot(answer)
`
  )

  /**
   * KEYS: as `renew`. ARGV: token, ttl, share. A renewal after which the holder has no more than that; who
   * waits for the rest is served.
   */
  const reshare = script(
    "reshare",
    ...lib,
    holding,
    whyNot(7),
    `
if look() then return whyNot(2) end
local ends = endOf(ARGV[1])
if not ends then return whyNot(0) end
local known = redis.call('HGET', KEYS[5], ARGV[1])
local less = known and shareOf(known) - ARGV[3] or 0
if less > 0 then
  redis.call('HSET', KEYS[5], ARGV[1], (string.gsub(known, '^(%d+ %l+/1 %d+) %d+', '%1 ' .. ARGV[3])))
  redis.call('HINCRBY', KEYS[5], 'in-use', -less)
end
extend(ARGV[1], tonumber(ARGV[2]), ends)
serve(now)
return 1
`
  )

  /** KEYS: the first, what was revoked. ARGV: token. Answers as `renew`. */
  const verify = script(
    "verify",
    clock,
    time,
    unlessHeld,
    whyNot(2),
    `
local ends, why = unlessHeld()
return ends and 1 or whyNot(why)
`
  )

  /** ARGV: token, ttl, claim, window, ttl of a grant by handoff. As of a lock. */
  const heartbeat = script(
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
  const pass = script(
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
  drop({ ARGV[1] })
  keep()
  serve(now, true)
  return 1
end
local before = tonumber(string.match(redis.call('GET', KEYS[2]) or '', '^%d+')) or 0
before = math.max(before, tonumber(fence))
local most = mint(now, ARGV[3], before)
local first = firstOf(most, before)
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
   * KEYS: all six, what was revoked. ARGV: token, ttl, claim, the token with which the share was handed over.
   * As of a lock; what is granted is what that holder's entry says.
   */
  const adopt = script(
    "adopt",
    ...lib,
    holding,
    whyNot(7, 4),
    `
if look() then return whyNot(2) end
local ends = endOf(ARGV[1])
if ends then return claimed(ends) end
local known = endOf(ARGV[4]) and redis.call('HGET', KEYS[5], ARGV[4])
if not known then return whyNot(0) end
local share, limit = shareOf(known)
local claim = string.gsub(ARGV[3], '^(%l+/1 %d+) %d+ %d+', '%1 ' .. share .. ' ' .. limit)
-- (what refuses this must not leave nobody with the share)
local fence = mint(now, claim)
drop({ ARGV[4] })
all()
put(ARGV[1], fence, claim, tonumber(ARGV[2]))
keep()
return told(fence)
`
  )

  /**
   * Several releases, renewals, and acquires in one call, as of locks: what needs the queue, does not hold
   * the key, or fails, is answered with nothing and asked again by itself.
   *
   * KEYS: six for each. ARGV: number of releases, of renewals, of acquires; token of each release; token,
   * ttl of each renewal; token, ttl, claim of each acquire.
   */
  const batch = script(
    "batch",
    clock,
    time,
    isOurs,
    record(mark),
    holders(mark),
    holding,
    acquireOne,
    releaseOne,
    unlessHeld,
    renewOne,
    `
local answers = {}
local function each(operation, count, args)
  for _ = 1, count do
    read = nil
    local ok, answer = pcall(operation)
    answers[#answers + 1] = ok and type(answer) ~= 'table' and answer or false
    k, a = k + 6, a + args
  end
end
local function renewed()
  return renew() == 1 and 1
end

a = 3
each(leave, ARGV[1], 1)
each(renewed, ARGV[2], 2)
each(attempt, ARGV[3], 3)
return answers
`
  )

  return {
    acquire,
    release: orByOneKey(release, releaseByOneKey),
    renew: orByOneKey(renew, renewByOneKey),
    // (the next one makes the share smaller)
    reshare: orByOneKey(reshare, renewByOneKey),
    verify: orByOneKey(verify, verifyByOneKey),
    heartbeat,
    // (without the numbers that stand beside the key it cannot be kept: it is given back)
    pass: orByOneKey(pass, releaseByOneKey),
    adopt,
    batch
  }
}

/** KEYS: one that stands beside the first key. ARGV: ttl. It lives for so long at least, if it is there. */
export const prolong = script(
  "prolong",
  `
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
`
)

export const { acquire, release, renew, reshare, verify, heartbeat, pass, adopt, batch } =
  scriptsOf("semaphore/1 ", false)

export const readWrite = scriptsOf("rwlock/1 ", true)
