/**
 * The scripts of claims with bounds: those of the kind, with what is done before and after them. A claim
 * with bounds shares its token with no other claim, and its lease begins with an answer: of a grant by
 * message it asks (`place.ts`). So what the answered command does is done before anything runs.
 *
 * KEYS: those of the kind; of a lock also
 * KEYS[5]  the last tick that was granted: `<tick> <token of that grant> <the tick before it>`
 */
import { script, type Script } from "./lua.js"
import * as lock from "./scripts.js"

/** A whole script as a function of another one: it uses the same KEYS and ARGV. */
const as = (name: string, { lua }: Script): string => `local function ${name}()\n${lua}\nend\n`

const lastTick = `
local function lastTick()
  return string.match(redis.call('GET', KEYS[5]) or '', '^(%-?%d+) (%S+) ?(%-?%d*)$')
end
`

/**
 * ARGV: those of the plain script, with a window and a ttl by handoff that may be empty; a tick, and for
 * how long it is kept (ms), or two that are empty.
 *
 * As the plain script does, unless the claim's tick is not later than the last one: then it leaves the
 * queue, or gives back what it was granted by handoff, and answers { 'tick', last tick }. The tick of a
 * grant is noted with its token, so that a command that is sent again finds that it is its own.
 */
const granting = (plain: Script): Script =>
  script(
    plain.name,
    as("plain", plain),
    as("leave", lock.release),
    lastTick,
    `
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
return answer
`
  )

/**
 * ARGV: token, and `1` if its lease was used. Otherwise its grant did not come to its caller: its tick
 * can be granted again.
 */
const releasing = script(
  lock.release.name,
  as("plain", lock.release),
  lastTick,
  `
if not ARGV[2] then
  local _, by, before = lastTick()
  if by == ARGV[1] and before == '' then
    redis.call('DEL', KEYS[5])
  elseif by == ARGV[1] then
    redis.call('SET', KEYS[5], before .. ' - ', 'KEEPTTL')
  end
end
return plain()
`
)

export const ofLock = {
  acquire: granting(lock.acquire),
  heartbeat: granting(lock.heartbeat),
  release: releasing
}
