/** Ends the lease of one holder, whoever asks: of a key of whichever kind. */
import { handoff, holders, time } from "./holders.js"
import { clock, isOurs, queue, record, script } from "./lua.js"
import { holder, mark } from "./scripts.js"

const ofLock = `
  local known = redis.call('GET', KEYS[2]) or ''
  if string.match(known, '^%d+') ~= ARGV[1] then return 0 end
  local why = refusal(known)
  if why then return redis.error_reply(why) end
  remember(token, longest(known))
  serve(now)
  if not taken then redis.call('DEL', KEYS[1]) end
`

const ofSeveral = `
  if look() then return 0 end
  local known = endOf(token) and redis.call('HGET', KEYS[5], token)
  if not known or string.match(known, '^%d+') ~= ARGV[1] then return 0 end
  remember(token, longest(known))
  drop({ token })
  keep()
  serve(now)
`

/** As a block, since each kind has its own. */
const severalOf = (mark: string, runs: boolean): string => `
  ${record(mark)}
  ${holders(mark)}
  ${handoff(runs)}
  ${queue(mark)}
  ${ofSeveral}
`

/**
 * KEYS: all six, and what was revoked. ARGV: a fencing token, and a name for this request. If that is the
 * number of a holder (in the record, or in its entry): its token holds the key no more, the next in the
 * queue is served, and the holder's process is told to ask. 1: done, by this request. 0: nobody holds it
 * with that number, and nothing was changed.
 *
 * That it was revoked is noted for as long as its holder may ask, at least. A copy of the request finds
 * that note, and says what the first one said.
 */
export const revoke = script(
  "revoke",
  clock,
  time,
  isOurs,
  `
if redis.call('HGET', KEYS[7], ARGV[1]) == ARGV[2] then return 1 end

local function remember(token, ttl)
  local most = math.max(ttl or 60000, redis.call('PTTL', KEYS[7]), 1000)
  redis.call('HSET', KEYS[7], token, ARGV[1], ARGV[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[7], most)
  -- (before the grants: the next holder can be of the same process)
  redis.pcall('PUBLISH', string.match(token, '^([^.]*)'), token .. ' 0 0 ' .. KEYS[1])
end

local token = redis.pcall('GET', KEYS[1])
if not token then return 0 end
if type(token) == 'string' then
  if not isOurs(token) then return 0 end
  ${record(mark)}
  ${holder}
  ${queue(mark)}
  ${ofLock}
else
  if not string.find(token.err, 'WRONGTYPE') then return token end
  local first = redis.pcall('ZRANGE', KEYS[1], 0, 0)
  -- (something else than a lock)
  if first.err then return 0 end
  -- one that holds it alone need not stand in the index
  local fence = 'f' .. string.rep('0', 16 - #ARGV[1]) .. ARGV[1]
  local found = redis.call('ZRANGEBYLEX', KEYS[6], '[' .. fence .. ' ', '(' .. fence .. '!', 'LIMIT', 0, 1)[1]
  token = found and string.sub(found, 19) or first[1]
  local kind = string.match(redis.call('HGET', KEYS[5], token) or '', '^%d+ (%l+)/')
  if kind == 'semaphore' then
    ${severalOf("semaphore/1 ", true)}
  elseif kind == 'rwlock' then
    ${severalOf("rwlock/1 ", false)}
  else
    return 0
  end
end
return 1
`
)
