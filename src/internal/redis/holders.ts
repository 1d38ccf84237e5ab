/**
 * Parts of the Lua for kinds that several can hold at once: who holds the key, and what is in use. What
 * KEYS and claims are is said in `lua.ts`.
 */

import { fencingBlock } from "./lua.js"

/** So many holders whose ttl has ended are removed in one call; the rest counts until the next one. */
const mostRemoved = 32

/** The time of the call, and by it the end of a holder's ttl. */
export const time = `
local now = micros()
local millis = math.floor(now / 1000)

-- The end of a holder's ttl, if that is still to come; and whether the token is there at all.
local function endOf(token)
  local ends = redis.call('ZSCORE', KEYS[k + 1], token)
  return ends and tonumber(ends) > millis and tonumber(ends), ends
end
`

/**
 * To be followed by `queue`, for which it says whether there is room, and makes holders. `mark`: how a
 * claim of the kind begins.
 */
export const holders = (mark: string): string => `
-- What a claim (or the entry of a holder) needs, and within which limit: as it stands there.
local function shareOf(claim)
  return string.match(claim, '%l+/1 %d+ (%d+) (%d+) ')
end

-- In the index: of 16 digits, and of 7.
local function ofFence(fence, token)
  return 'f' .. string.rep('0', 16 - #fence) .. fence .. ' ' .. token
end

local function ofLimit(limit, token)
  return string.format('l%07d ', limit) .. token
end

-- Of all holders of the key that is read: what is in use, the smallest fencing token and limit, and the
-- end of the last one's ttl. One that holds it \`alone\` (token, fencing token, limit) stands in no index.
local read, used, floor, least, last, alone

local function nobody()
  read, used, floor, least, last, alone = k, 0, nil, math.huge, 0, nil
end

local function all()
  if read == k then return end
  nobody()
  local held = redis.call('ZRANGE', KEYS[k + 1], -2, -1, 'WITHSCORES')
  local token = held[3] or held[1]
  if not token then return end
  last, used = tonumber(held[4] or held[2]), tonumber(redis.call('HGET', KEYS[k + 5], 'in-use'))
  local first = redis.call('ZRANGEBYLEX', KEYS[k + 6], '[f', '(g', 'LIMIT', 0, 1)[1]
  local known = not first and not held[3] and redis.call('HGET', KEYS[k + 5], token)
  if first then
    floor = string.match(first, '^f0*(%d+)')
    least = tonumber(string.sub(redis.call('ZRANGEBYLEX', KEYS[k + 6], '[l', '(m', 'LIMIT', 0, 1)[1], 2, 8))
  elseif known then
    local _, limit = shareOf(known)
    floor, least = string.match(known, '^%d+'), tonumber(limit)
    alone = { token, floor, limit }
  else
    -- somebody has deleted what stands beside the key: nobody can tell how much is in use
    least = 0
  end
  used = used or math.huge
end

local function expire(at, several)
  redis.call('PEXPIREAT', KEYS[k + 1], at)
  redis.call('PEXPIREAT', KEYS[k + 5], at)
  if several then redis.call('PEXPIREAT', KEYS[k + 6], at) end
end

-- The key lives until the last of its holders' ttls ends, and what stands beside it does so, too.
local function keep()
  local ends = redis.call('ZRANGE', KEYS[k + 1], -1, -1, 'WITHSCORES')[2]
  if not ends then return redis.call('DEL', KEYS[k + 5], KEYS[k + 6]) end
  expire(ends, true)
end

-- They hold it no more.
local function drop(tokens)
  read = nil
  local freed, entries, known = 0, {}, {}
  for i = 1, #tokens do
    local entry = redis.call('HGET', KEYS[k + 5], tokens[i])
    if entry then
      local share, limit = shareOf(entry)
      freed, known[#known + 1] = freed + share, tokens[i]
      entries[#entries + 1] = ofFence(string.match(entry, '^%d+'), tokens[i])
      entries[#entries + 1] = ofLimit(limit, tokens[i])
    end
  end
  if freed > 0 then
    redis.call('ZREM', KEYS[k + 6], unpack(entries))
    redis.call('HINCRBY', KEYS[k + 5], 'in-use', -freed)
    redis.call('HDEL', KEYS[k + 5], unpack(known))
  end
  redis.call('ZREM', KEYS[k + 1], unpack(tokens))
end

local toRemove = ${mostRemoved}

-- Whether what stands at the key is not of this kind, and which other one it is of, if it is ours; holders
-- whose ttl has ended are removed.
local strange

local function look()
  strange = nil
  local held = redis.pcall('ZRANGE', KEYS[k + 1], 0, 0, 'WITHSCORES')
  if held.err then
    -- (any other error comes again)
    if not string.find(held.err, 'WRONGTYPE') then redis.call('ZRANGE', KEYS[k + 1], 0, 0) end
    return true
  end
  if not held[1] then
    -- (somebody may have deleted the key alone)
    redis.call('UNLINK', KEYS[k + 5], KEYS[k + 6])
    return false
  end
  if not isOurs(held[1]) then return true end
  local kind = string.match(redis.call('HGET', KEYS[k + 5], held[1]) or '', '^%d+ (%l+)/')
  if kind and kind ~= '${mark.split("/")[0]}' then
    strange = kind
    return true
  end
  if tonumber(held[2]) <= millis and toRemove > 0 then
    local gone = redis.call('ZRANGEBYSCORE', KEYS[k + 1], '-inf', string.format('%.0f', millis), 'LIMIT', 0, toRemove)
    drop(gone)
    toRemove = toRemove - #gone
    keep()
  end
  return false
end

-- Whether there is room for a claim; without one, for the smallest.
local function room(claim)
  all()
  if not claim then return used < least end
  local share, limit = shareOf(claim)
  return used + share <= math.min(limit, least)
end

-- (of whoever there was room for)
local function put(token, fence, claim, ttl)
  local share, limit = shareOf(claim)
  local ends, before = millis + ttl, used
  local at = string.format('%.0f', ends)
  redis.call('ZADD', KEYS[k + 1], at, token)
  used = before + share
  redis.call('HSET', KEYS[k + 5], token, fence .. ' ' .. claim, 'in-use', before == 0 and share or used)
  if before == 0 then
    floor, least, last, alone = fence, tonumber(limit), ends, { token, fence, limit }
    return expire(at)
  end
  redis.call('ZADD', KEYS[k + 6], 0, ofFence(fence, token), 0, ofLimit(limit, token))
  least = math.min(least, limit)
  if tonumber(fence) < tonumber(floor) then floor = fence end
  if alone then redis.call('ZADD', KEYS[k + 6], 0, ofFence(alone[2], alone[1]), 0, ofLimit(alone[3], alone[1])) end
  if ends > last or alone then
    last = math.max(last, ends)
    expire(string.format('%.0f', last), true)
  end
  alone = nil
end

-- Of the numbers up to that one which nobody can have had since the last one, the first of a block.
local function firstOf(fence, last)
  return string.format('%.0f', math.max(last + 1, fence - ${fencingBlock - 1}))
end

-- A grant, as it is told: its fencing token, and the smallest fencing token and limit of all holders.
local function told(fence)
  all()
  return fence .. ':' .. (floor or fence) .. ':' .. least
end
`

/**
 * How a waiter becomes a holder. `runs`: its process passes on what it is granted, so it has a block of
 * fencing tokens, and is told the last of them as well.
 */
export const handoff = (runs: boolean): string => `
-- The entry has the first one, so that nobody is told of a smallest fencing token that a caller of the
-- process is below. (Of a key that nobody held up to now, who came by another queue may have had some.)
local function grant(token, fence, claim, ttl, last, held)
  local first = ${runs ? "last > 0 and (held or used > 0) and firstOf(fence, last) or fence" : "fence"}
  put(token, first, claim, ttl)
  return first == fence and told(first) or told(first) .. ':' .. fence
end
`

/** What is done for a token that holds, and what is told to one that does not. */
export const holding = `
-- The end of a holder's ttl: never earlier than it is, but where it is further away than the longest ttl
-- that was asked for (the server's clock was set back). The entry of the holder tells of that one.
local function extend(token, ttl, ends)
  local known = redis.call('HGET', KEYS[k + 5], token)
  local before = known and longest(known) or 0
  local most, left = math.max(ttl, before), ends - millis
  redis.call('ZADD', KEYS[k + 1], string.format('%.0f', millis + math.min(most, math.max(left, ttl))), token)
  if known and ttl > before then
    redis.call('HSET', KEYS[k + 5], token,
      (string.gsub(known, '^(%d+ %l+/1 )%d+', '%1' .. string.format('%.0f', ttl))))
  end
  read = nil
  keep()
  return known
end

-- For a holder: the full ttl, and what it was granted with.
local function claimed(ends)
  local known = extend(ARGV[a + 1], tonumber(ARGV[a + 2]), ends)
  return told(known and string.match(known, '^%d+') or mint(now, ARGV[a + 3]))
end

-- As of a lock: of the holder whose ttl ends first; then the number of the last grant, and the smallest
-- limit of all holders.
local function busy(foreign, rank)
  local time = string.format('%.0f', now)
  local known = redis.call('GET', KEYS[k + 2]) or ''
  local number = string.match(known, '^%d+') or '0'
  if foreign then return { redis.call('PTTL', KEYS[k + 1]), 0, known, time, rank, number, 0 } end
  local first, ends = unpack(redis.call('ZRANGE', KEYS[k + 1], 0, 0, 'WITHSCORES'))
  if not first then return { 0, 1, known, time, rank, number, 0 } end
  known = redis.call('HGET', KEYS[k + 5], first) or ''
  all()
  return { math.max(0, ends - millis), 1, known, time, rank, number, least }
end

-- Why it cannot be had: what stands there is of another kind. A foreign program's key is waited for.
local function stranger()
  local token = redis.pcall('GET', KEYS[k + 1])
  if strange then return otherKind(strange, 'held') end
  if type(token) == 'table' then return token end
  if token and isOurs(token) then return otherKind('lock', 'held') end
end
`
