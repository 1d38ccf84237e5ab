/** Looking at a key, of whichever kind it is. It changes nothing, and costs the server a bounded time. */
import { clock, isOurs, script } from "./lua.js"

/** So many holders whose ttl has ended are told from the others in one look; the rest counts as held. */
const mostExpired = 128

/**
 * KEYS: all six. ARGV: how many holders and how many waiters to list at most. Answers
 *
 * - the kind of what stands there (`foreign`, empty: nothing);
 * - how much is in use, the number of holders, and the smallest limit;
 * - of each holder, in the order of their grants, the ms that are left of its ttl (-1: it has none),
 *   `<fencing token> <claim>`, and, if it is one of ours, the beginning of its token: its store;
 * - of each waiter, in order, the ms since it came, and its claim; and how many there are;
 * - the server's time, in µs.
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

local most, now = tonumber(ARGV[1]), micros()
local millis = math.floor(now / 1000)
local kind, used, count, least, held, pending = '', 0, 0, 0, {}, {}
local stands = redis.call('TYPE', KEYS[1]).ok
local tokens = stands == 'zset' and redis.call('ZRANGE', KEYS[1], 0, 1) or {}
if stands == 'string' then
  local token, known, store = redis.call('GET', KEYS[1]), '', nil
  kind, used, count, least = 'foreign', 1, 1, 1
  if isOurs(token) then
    kind = 'lock'
    known, store = redis.call('GET', KEYS[2]) or '', storeOf(token)
  end
  if most > 0 then held[1] = { redis.call('PTTL', KEYS[1]), known, store } end
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
      if #held < most then held[#held + 1] = { left, known, storeOf(tokens[i]) } end
      if least == 0 then least = tonumber(string.match(known, '%l+/1 %d+ %d+ (%d+)') or 0) end
    end
  end
  if count > 0 then
    kind = string.match(redis.call('HGET', KEYS[5], tokens[1]) or '', '^%d+ (%l+)/') or 'semaphore'
  end
end
local queued = most > 0 and redis.call('ZRANGE', KEYS[3], 0, most - 1, 'WITHSCORES') or {}
for i = 1, #queued, 2 do
  local beat, window, claim = string.match(redis.call('HGET', KEYS[4], queued[i]) or '', '^(%d+) (%d+) %d+ (.*)$')
  if beat and now / 1000 - beat <= tonumber(window) then
    pending[#pending + 1] = { math.max(0, math.floor((now - queued[i + 1]) / 1000)), claim }
  end
end
return { kind, used, count, least, held, pending, redis.call('ZCARD', KEYS[3]), string.format('%.0f', now) }
`
)
