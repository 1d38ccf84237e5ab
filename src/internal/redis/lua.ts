/**
 * Parts of the Lua that runs on the server, by name: a script carries those that it runs.
 *
 * KEYS, from `k` on, and ARGV, from `a` on, so that several operations can follow one another in one
 * call:
 *
 * KEYS[1]  the lock. Of kind `lock` a plain string that holds the owner's token, with a ttl; of other
 *          kinds a sorted set of the holders' tokens, by the end of their ttls (ms, server time)
 * KEYS[2]  the record of the last grant, `<fencing token> <claim>`, kept for a day after it
 * KEYS[3]  the queue: a sorted set of waiters' tokens, by arrival
 * KEYS[4]  what is known of each waiter: `<last heartbeat> <window> <ttl of a grant> <claim>`, in ms
 * KEYS[5]  of each holder `<fencing token> <claim>`, and under `in-use` the sum of their shares
 * KEYS[6]  where several hold it, their fencing tokens and limits, in lexical order: `f<fencing token>
 *          <token>` and `l<limit> <token>`
 *
 * And where a script says so, of those that were revoked of late, for as long as they may ask: each token,
 * and for each fencing token the request that revoked it.
 *
 * A claim is `lock/1 <ttl> <owner>`, or `semaphore/1 <ttl> <share> <limit> <owner>`, or the same with
 * `rwlock/1`: the kind and the version of this format, the longest ttl that was asked for with the token, a description. (Before
 * there were versions: the owner alone.) A record of a later version is left as it is, and so is a
 * waiter of one, or of another kind.
 */
import { createHash } from "node:crypto"
import { tokenMark } from "../common/token.js"

export interface Script {
  readonly name: string
  readonly lua: string
  readonly sha: string
  /**
   * The same with the first key alone, for when the others are at another node of a Cluster (`parcel.ts`):
   * it finds the token in place, or does nothing. It has the same arguments, and is of use where there are
   * so many.
   */
  readonly byOneKey?: { readonly script: Script; readonly leastArgs: number }
}

export const script = (name: string, ...parts: ReadonlyArray<string>): Script => {
  const lua = parts.join("\n")
  return { name, lua, sha: createHash("sha1").update(lua).digest("hex") }
}

export const orByOneKey = (all: Script, one: Script, leastArgs = 1): Script => ({
  ...all,
  byOneKey: { script: one, leastArgs }
})

/**
 * Queue and waiters outlive the longest claim window (3 s), so that no dead process leaves them. What stands
 * there may have been refreshed up to a second after its arrival: it is kept for 9 s at least.
 */
const queueTtl = 10_000

/**
 * So many dead waiters are passed over in one call, or half as many living ones served, and then the next
 * one is told to ask: a call is short.
 */
const mostPassed = 64

/**
 * How many fencing tokens a process gives out at most until it asks again. They are the microseconds
 * before the answer: so many also say how far a token can be behind the server's time at that moment.
 */
export const fencingBlock = 256

/** The least that a server's clock can say, in µs: of 2001, from when on fencing tokens have 16 digits. */
export const leastTime = "1e15"

/** Comes first where it is needed: a server that refuses it, or says 0, has done nothing yet. */
export const clock = `
local k, a = 0, 0

local function micros()
  local t = redis.pcall('TIME')
  if t.err then error('NOTIME TIME is refused in scripts: ' .. t.err, 0) end
  local now = t[1] * 1000000 + t[2]
  if now < ${leastTime} then error('NOTIME TIME answers ' .. t[1] .. ' ' .. t[2] .. ' in scripts.', 0) end
  return now
end
`

/** `mark`: how a claim of the kind begins, for example `lock/1 `. */
export const record = (mark: string): string => `
-- Why a record is left alone, if it was written by a later version.
local function refusal(known)
  -- (by far the most, and a pattern costs as much as all else here)
  if string.sub(known, 17, ${17 + mark.length}) == ' ${mark}' then return end
  local kind, version = string.match(known, '^%d+ (%l+)/(%d+) ')
  if version and tonumber(version) > 1 then
    return 'LATERVERSION The record of this lock is of a later version of this library (' ..
      kind .. '/' .. version .. ', and this one knows ${mark.trim()})'
  end
end

-- A fencing token: max(last + 1, server time), where the asker may know of a last one; and the last.
local function mint(now, claim, least)
  local fence = string.format('%.0f', now)
  local known = redis.call('SET', KEYS[k + 2], fence .. ' ' .. claim, 'EX', 86400, 'GET')
  if not known and not least then return fence, 0 end
  known = known or ''
  local why = refusal(known)
  if why then
    redis.call('SET', KEYS[k + 2], known, 'EX', 86400)
    error(why, 0)
  end
  local last = math.max(tonumber(string.match(known, '^%d+')) or 0, least or 0)
  if last >= now then
    fence = string.format('%.0f', last + 1)
    redis.call('SET', KEYS[k + 2], fence .. ' ' .. claim, 'EX', 86400)
  end
  return fence, last
end

-- The longest ttl that the tenure was asked for with.
local function longest(known)
  return tonumber(string.match(known, '^%d+ %l+/1 (%d+) '))
end

local function otherKind(kind, how)
  return redis.error_reply('OTHERKIND The key is ' .. how .. ' as a ' .. string.gsub(kind, 'rwlock', 'read-write lock') ..
    ', and was asked for as a ${mark.split("/")[0]!.replace("rwlock", "read-write lock")}')
end
`

/**
 * The queue. A kind says, before this part, whether there is room for a claim (`room`), and makes it a
 * holder (`grant`, which answers what is told of it).
 */
export const queue = (mark: string): string => `
-- Grants that one message can tell go out in one: lists of tokens, grants and ttls, and the key.
local channel, tokens, grants, ttls

local function publish()
  if channel then
    redis.pcall('PUBLISH', channel, tokens .. ' ' .. grants .. ' ' .. ttls .. ' ' .. KEYS[k + 1])
    channel = nil
  end
end

local function tell(token, grant, ttl)
  local to = string.match(token, '^([^.]*)')
  if to == channel then
    tokens, grants, ttls = tokens .. ',' .. token, grants .. ',' .. grant, ttls .. ',' .. ttl
  else
    publish()
    channel, tokens, grants, ttls = to, token, grant, ttl
  end
end

-- Makes holders of the first live waiters, as long as there is room, and tells their processes: also the
-- time of the last heartbeat that is known here, so that a server that has had an older one, and does not
-- know what others have done since, is not believed.
-- Answers true where somebody lives who is not for this version to serve, and asks by itself.
local toPass = ${mostPassed}

-- (held: by the asker, up to now, so that nobody has had a fencing token since the last one)
local function serve(now, held)
  local other = nil
  -- (of an operation that failed)
  channel = nil
  repeat
    local full = toPass <= 0
    if not room() then break end
    local first, place = unpack(redis.call('ZPOPMIN', KEYS[k + 3]))
    if not first then break end
    local known = redis.call('HGET', KEYS[k + 4], first) or ''
    local beat, window, ttl, claim = string.match(known, '^(%d+) (%d+) (%d+) (.*)$')
    if beat and now / 1000 - beat <= tonumber(window) then
      -- (before there were versions, there were locks alone)
      local form, fence, last = string.match(claim, '^%l+/%d+ ') or 'lock/1 ', nil, nil
      if form ~= '${mark}' then other = true end
      local ok = not other and not full and room(claim)
      -- the rest is for a call of its own: the message says nothing that can be believed, so it asks
      if full and not other then tell(first, '0', '0') end
      if ok then
        ok, fence, last = pcall(mint, now, claim)
        other = not ok
      end
      if not ok then
        redis.call('ZADD', KEYS[k + 3], place, first)
        -- (it was the only one: so the queue is a new key)
        redis.call('PEXPIRE', KEYS[k + 3], ${queueTtl})
        break
      end
      redis.call('HDEL', KEYS[k + 4], first)
      tell(first, grant(first, fence, claim, ttl, last, held, now), ttl .. ':' .. beat)
      toPass = toPass - 1
    else
      redis.call('HDEL', KEYS[k + 4], first)
    end
    toPass = toPass - 1
  until full
  publish()
  return other
end

local function note(now, token, window, ttl)
  redis.call('HSET', KEYS[k + 4], token, string.format('%.0f', now / 1000) .. ' ' .. window .. ' ' .. ttl ..
    ' ' .. ARGV[a + 3])
end

local function refresh()
  redis.call('PEXPIRE', KEYS[k + 3], ${queueTtl})
  redis.call('PEXPIRE', KEYS[k + 4], ${queueTtl})
end

local function stand(now)
  note(now, ARGV[a + 1], ARGV[a + 4], ARGV[a + 5])
  refresh()
  return redis.call('ZRANK', KEYS[k + 3], ARGV[a + 1])
end

-- A token comes to the end of the queue, behind one of that score; false, where it stands there already.
local function enlist(now, token, window, ttl, score)
  local last = tonumber(score)
  local at = string.format('%.0f', math.max(now, (last or 0) + 1))
  if redis.call('ZADD', KEYS[k + 3], 'NX', at, token) == 0 then return false end
  note(now, token, window, ttl)
  -- the first that comes in a second does it for the others
  if not last or math.floor(last / 1000000) ~= math.floor(now / 1000000) then refresh() end
  return true
end

-- The asker comes to the end of the queue, if it waits (-1: it does not). Answers how many are before it,
-- or an error where the last one waits for another kind of lock, unless it is known that none does.
local function join(now, known)
  local waits = (ARGV[a + 4] or '') ~= ''
  if known and not waits then return -1 end
  local last, score = unpack(redis.call('ZRANGE', KEYS[k + 3], -1, -1, 'WITHSCORES'))
  if last and not known then
    local entry = redis.call('HGET', KEYS[k + 4], last) or ''
    local beat, window, kind = string.match(entry, '^(%d+) (%d+) %d+ (%l+)/%d+ ')
    if kind and kind .. '/' ~= '${mark.slice(0, mark.indexOf("/") + 1)}' and now / 1000 - beat <= tonumber(window) then
      return otherKind(kind, 'waited for')
    end
  end
  if not waits then return -1 end
  if not enlist(now, ARGV[a + 1], ARGV[a + 4], ARGV[a + 5], score) then return stand(now) end
  return last and redis.call('ZRANK', KEYS[k + 3], ARGV[a + 1]) or 0
end
`

/**
 * What is told of a token that does not hold the key: why, or 3, if it was revoked. `revoked`: which of the
 * keys says so; `token`: which argument it is.
 */
export const whyNot = (revoked: number, token = 1): string => `
local function whyNot(why)
  return type(why) == 'number' and redis.call('HGET', KEYS[${revoked}], ARGV[${token}]) and 3 or why
end
`

/** Whether a value is one of our tokens. */
export const isOurs = `
local function isOurs(token)
  return string.sub(token, 1, ${tokenMark.length}) == '${tokenMark}'
end
`
