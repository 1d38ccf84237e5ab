/** Looking at a key, of whichever kind it is. It changes nothing, and costs the server a bounded time. */
import { clock, isOurs, script } from "./lua.js"

/** So many dead waiters are passed over in one look to list others; the rest counts as waiting. */
const mostDead = 128

/** So many holders whose ttl has ended are told from the others in one look; the rest counts as held. */
const mostExpired = 128

/**
 * KEYS: all six, what was revoked, and the last tick. ARGV: how many holders and how many waiters to list at most, and
 * fencing tokens of which to say whether they were revoked. Answers
 *
 * - the kind of what stands there (`foreign`, empty: nothing);
 * - how much is in use, the number of holders, and the smallest limit;
 * - of each holder, in the order of their grants, the ms that are left of its ttl (-1: it has none),
 *   `<fencing token> <claim>`, the beginning of its token (its store; empty, if it is none of ours), and a
 *   name for it;
 * - of each waiter, in order, when it came, in µs, its claim, and the last two of these; and how many there are;
 * - the server's time, in µs;
 * - those of the fencing tokens that were revoked;
 * - the last tick (empty: none is known).
 */
export const look = script(
  "look",
  clock,
  isOurs,
  `
-- (and the mark of a token whose holder has left it)
local function storeOf(token)
  return string.match(token, '^[^.]*') .. string.match(token, '!?$')
end

-- (as idOf of token.ts)
local function idOf(token)
  return string.sub(redis.sha1hex((string.gsub(token, '!$', ''))), 1, 16)
end

local most, now = tonumber(ARGV[1]), micros()
local millis = math.floor(now / 1000)
local kind, used, count, least, held, pending = '', 0, 0, 0, {}, {}
local stands = redis.call('TYPE', KEYS[1]).ok
local tokens = stands == 'zset' and redis.call('ZRANGE', KEYS[1], 0, 1) or {}
if stands == 'string' then
  -- (a token, or the beginning of what another program has there, however long that is)
  local token, known, store = redis.call('GETRANGE', KEYS[1], 0, 63), '', ''
  kind, used, count, least = 'foreign', 1, 1, 1
  if isOurs(token) then
    kind = 'lock'
    known, store = redis.call('GET', KEYS[2]) or '', storeOf(token)
  end
  if most > 0 then held[1] = { redis.call('PTTL', KEYS[1]), known, store, idOf(token) } end
elseif tokens[1] and isOurs(tokens[1]) then
  local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', millis), 'LIMIT', 0, ${mostExpired})
  count = redis.call('ZCARD', KEYS[1]) - #over
  used = tonumber(redis.call('HGET', KEYS[5], 'in-use') or 0)
  local gone = {}
  for i = 1, #over do
    gone[over[i]] = true
    used = used - tonumber(string.match(redis.call('HGET', KEYS[5], over[i]) or '', '%l+/1 %d+ (%d+)') or 0)
  end
  -- (one that holds it alone need not stand in the index)
  local grants = redis.call('ZRANGEBYLEX', KEYS[6], '[f', '(g', 'LIMIT', 0, most + #over)
  if #grants > 0 then
    tokens = {}
    for i = 1, #grants do tokens[i] = string.sub(grants[i], 19) end
    local limits = redis.call('ZRANGEBYLEX', KEYS[6], '[l', '(m', 'LIMIT', 0, #over + 1)
    for i = 1, #limits do
      if least == 0 and not gone[string.sub(limits[i], 10)] then least = tonumber(string.sub(limits[i], 2, 8)) end
    end
  end
  for i = 1, #tokens do
    if (#held < most or least == 0) and not gone[tokens[i]] then
      local known = redis.call('HGET', KEYS[5], tokens[i]) or ''
      local left = tonumber(redis.call('ZSCORE', KEYS[1], tokens[i]) or millis) - millis
      -- (there can be more that have ended)
      if #held < most and left > 0 then held[#held + 1] = { left, known, storeOf(tokens[i]), idOf(tokens[i]) } end
      if least == 0 then least = tonumber(string.match(known, '%l+/1 %d+ %d+ (%d+)') or 0) end
    end
  end
  if count > 0 then
    kind = string.match(redis.call('HGET', KEYS[5], tokens[1]) or '', '^%d+ (%l+)/') or 'semaphore'
  end
end
local from, dead = 0, 0
while #pending < most and from < most + ${mostDead} do
  -- (where something else stands in its place, nobody waits)
  local queued = redis.pcall('ZRANGE', KEYS[3], from, from + most - 1, 'WITHSCORES')
  for i = 1, #queued, 2 do
    local beat, window, claim = string.match(redis.call('HGET', KEYS[4], queued[i]) or '', '^(%d+) (%d+) %d+ (.*)$')
    if not beat or now / 1000 - beat > tonumber(window) then
      dead = dead + 1
    elseif #pending < most then
      pending[#pending + 1] = { queued[i + 1], claim, storeOf(queued[i]), idOf(queued[i]) }
    end
  end
  from = #queued < 2 * most and math.huge or from + most
end
local revoked = {}
for i = 2, #ARGV do
  if redis.call('HGET', KEYS[7], ARGV[i]) then revoked[#revoked + 1] = ARGV[i] end
end
local waiting = redis.pcall('ZCARD', KEYS[3])
waiting = type(waiting) == 'number' and waiting - dead or 0
local ticked = redis.pcall('GETRANGE', KEYS[8], 0, 20)
if type(ticked) == 'table' and not string.find(ticked.err, 'WRONGTYPE') then return ticked end
local tick = type(ticked) == 'string' and string.match(ticked, '^%-?%d+') or ''
return { kind, used, count, least, held, pending, waiting, string.format('%.0f', now), revoked, tick }
`
)
