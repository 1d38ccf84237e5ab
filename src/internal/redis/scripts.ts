/**
 * The Lua that runs on the server. Every script can be sent twice and has the same effect as once;
 * what it touches is declared in KEYS; values come as ARGV and never into the text.
 *
 * KEYS[1] is the lock: a plain string that holds the owner's token, with a ttl.
 * KEYS[2] is the record of the last grant, `<fencing token> <owner>`, kept for a day after it.
 */
import { createHash } from "node:crypto"
import { tokenMark } from "../token.js"

export interface Script {
  readonly name: string
  readonly lua: string
  readonly sha: string
}

const script = (name: string, lua: string): Script => ({
  name,
  lua,
  sha: createHash("sha1").update(lua).digest("hex")
})

/**
 * ARGV: token, ttl in ms, owner. Answers the fencing token (a string) where the lock is ours now,
 * or was already; otherwise { ms left or -1, 1 if one of our tokens holds it, the last record,
 * server time in µs }.
 *
 * The fencing token is max(last + 1, server time in µs). The record is written by the same script
 * that grants; if that is refused (a type, an ACL), the lock is given back at once.
 */
export const acquire = script(
  "acquire",
  `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  local fence = string.format('%.0f', now)
  local last = redis.pcall('SET', KEYS[2], fence .. ' ' .. ARGV[3], 'EX', 86400, 'GET')
  if type(last) == 'table' and last.err then
    redis.call('DEL', KEYS[1])
    return last
  end
  local lastFence = last and tonumber(string.match(last, '^%d+')) or 0
  if lastFence >= now then
    fence = string.format('%.0f', lastFence + 1)
    redis.call('SET', KEYS[2], fence .. ' ' .. ARGV[3], 'EX', 86400)
  end
  return fence
end
local token = redis.call('GET', KEYS[1])
local record = redis.call('GET', KEYS[2])
if token == ARGV[1] then
  return record and string.match(record, '^%d+') or string.format('%.0f', now)
end
local ours = string.sub(token, 1, ${tokenMark.length}) == '${tokenMark}' and 1 or 0
return { redis.call('PTTL', KEYS[1]), ours, record or '', string.format('%.0f', now) }
`
)

/** 1: ours. 0: the key is gone. 2: another token. */
const ownership = `
local token = redis.call('GET', KEYS[1])
if token ~= ARGV[1] then return token and 2 or 0 end
`

/** ARGV: token, ttl in ms. Check and expire. */
export const renew = script(
  "renew",
  `${ownership}
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`
)

/** ARGV: token. Check and delete. */
export const release = script(
  "release",
  `${ownership}
redis.call('DEL', KEYS[1])
return 1
`
)

/** ARGV: token. Check. */
export const verify = script("verify", `${ownership} return 1`)
