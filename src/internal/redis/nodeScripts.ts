/** The scripts of a server that is a node of a quorum. */
import { lockScripts } from "./boundScripts.js"
import { script, type Script } from "./lua.js"
import * as lock from "./scripts.js"

/**
 * Which run of the server it is. A restart has another one, and so has a replica that was promoted: both may
 * have forgotten leases, whatever else they have kept.
 */
const run = `
local function run()
  local info = redis.pcall('INFO', 'server')
  if type(info) == 'table' then error('NORUN INFO is refused in scripts: ' .. info.err, 0) end
  return string.match(info, 'run_id:(%x+)') or error('NORUN INFO says no run_id in scripts.', 0)
end
`

/** Answers the run. */
export const identify = script("identify", run, "return run()")

/**
 * KEYS: those of the renewal, which are three, and the node's marker: `<time in ms> <run>`, when a claim first
 * found that run. ARGV: those of the renewal; the least fencing token of a lease that is granted after this one, less
 * one; the longest ttl of the quorum.
 *
 * Of a run that was found less than the longest ttl ago, leases may be forgotten: it answers { 'joining', ms
 * left }, and renews nothing. Otherwise as the renewal, and the number in the record is that at least, before
 * the next grant of the key. It holds the token at that moment: so whoever is granted the key later here has
 * a greater number than the one who is confirmed.
 */
const confirming = (renew: Script): Script =>
  script(
    "confirm",
    run,
    `local function renew()\n${renew.lua}\nend`,
    `
local longest, fence = tonumber(table.remove(ARGV)), table.remove(ARGV)
local marker = table.remove(KEYS)
local t = redis.call('TIME')
local now, this = t[1] * 1000 + math.floor(t[2] / 1000), run()
local at, by = string.match(redis.call('GET', marker) or '', '^(%d+) (%x+)$')
-- (a time that is still to come was noted before the clock was set back)
if by ~= this or tonumber(at) > now then
  at = now
  redis.call('SET', marker, string.format('%.0f', now) .. ' ' .. this)
end
local left = at + longest - now
if left > 0 then return { 'joining', left } end
local answer = renew()
if answer ~= 1 and not (type(answer) == 'table' and answer[1] == 1) then return answer end
local last, claim = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) (.*)$')
if last and tonumber(last) < tonumber(fence) then
  redis.call('SET', KEYS[2], fence .. ' ' .. claim, 'EX', 86400)
end
return answer
`
  )

export const confirm = confirming(lock.renew)
export const confirmBound = confirming(lockScripts.renew)

/**
 * Several confirmations in one call, of leases without bounds: what is not as simple as that is answered with
 * nothing, and asked again by itself.
 *
 * KEYS: lock, record, marker of each. ARGV: how many; token, ttl, fencing token, longest ttl of each.
 */
export const confirmAll = script(
  "confirmAll",
  run,
  `
local call, answers = redis.pcall, {}
local ok, this = pcall(run)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local at, by = string.match(call('GET', KEYS[3]) or '', '^(%d+) (%x+)$')
local counts = ok and by == this and tonumber(at) <= now
local k, a = 0, 1
for i = 1, tonumber(ARGV[1]) do
  local answer, ttl = false, tonumber(ARGV[a + 2])
  if counts and at + ARGV[a + 4] <= now and call('GET', KEYS[k + 1]) == ARGV[a + 1] then
    local left, known = call('PTTL', KEYS[k + 1]), call('GET', KEYS[k + 2])
    local last, claim
    if type(known) == 'string' then last, claim = string.match(known, '^(%d+) (.*)$') end
    if last and type(left) == 'number' and left <= ttl and call('PEXPIRE', KEYS[k + 1], ttl) == 1 then
      local raised = tonumber(last) >= tonumber(ARGV[a + 3])
      if not raised then
        raised = call('SET', KEYS[k + 2], ARGV[a + 3] .. ' ' .. claim, 'EX', 86400).ok
      end
      if raised then answer = 1 end
    end
  end
  answers[i] = answer
  k, a = k + 3, a + 4
end
return answers
`
)
