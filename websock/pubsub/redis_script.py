"""What Redis does by itself: the ledger of a topic, in steps that nobody else comes between.

Strategy: as `Ledger`, in Lua. A topic is a stream with its records and a hash with what is known about it: where it was
``made``, its ``last`` position and its ``floor``, ``octets``, whether it is ``whole`` (nothing was cut, and nobody has
said what was before), and for each origin its highest number with the time of that. A ``uid`` is a key of its own. What
is added is published on the topic's channel by the same script, with the position before it, so that who follows sees
that nothing is missing. All keys expire.

Needs Redis 6.2 (``XTRIM MINID``).
"""

from __future__ import annotations

import functools
import hashlib
from typing import Final

__all__ = ["ADD", "OPEN", "sha"]


@functools.cache
def sha(script: str) -> str:
    """The name that Redis gives to a script."""
    return hashlib.sha1(script.encode()).hexdigest()  # noqa: S324 - guards nothing


_COMMON: Final = """\
local stream, meta = KEYS[1], KEYS[2]
local function id(ms, seq) return string.format('%.0f-%.0f', ms, seq) end
local function parts(text)
  local ms, seq = string.match(text, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function behind(ms, seq, other_ms, other_seq) return ms > other_ms or (ms == other_ms and seq > other_seq) end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local function following(ms, seq)
  if now > ms then return now, 0 end
  return ms, seq + 1
end
local function find(ms, seq, life)  -- the log; one that is not there is made behind this position
  local known = redis.call('HMGET', meta, 'made', 'floor', 'last', 'octets', 'whole')
  if not known[1] then
    local made = id(following(ms, seq))
    redis.call('DEL', stream)  -- without its hash nothing is known of it
    redis.call('HSET', meta, 'made', made, 'floor', made, 'last', made, 'octets', 0, 'whole', 1)
    known = {made, made, made, '0', '1'}
  elseif tonumber(known[4]) > 0 and redis.call('EXISTS', stream) == 0 then  -- evicted alone
    known[2], known[4], known[5] = known[3], '0', '0'
    redis.call('HSET', meta, 'floor', known[2], 'octets', 0, 'whole', 0)
  end
  redis.call('PEXPIRE', meta, life)
  redis.call('PEXPIRE', stream, life)
  return known
end
"""

OPEN: Final = (
    _COMMON
    + """\
-- KEYS: stream, hash. ARGV: after (ms, seq); milliseconds until the log is forgotten.
local known = find(tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3])
return {known[1], known[2], known[3], known[5], redis.call('XRANGE', stream, '(' .. ARGV[1] .. '-' .. ARGV[2], '+')}
"""
)
"""Made, floor, last, whether it is whole, and the entries."""

ADD: Final = (
    _COMMON
    + """\
-- KEYS: stream, hash, then one for each record that has a uid.
-- ARGV: channel; above (ms, seq); history (count, octets, milliseconds); milliseconds until the log and until a uid
-- are forgotten; floor or empty; then for each record: origin, number, "1" if it has a uid, its text.
local ms, seq = tonumber(ARGV[2]), tonumber(ARGV[3])
local known = find(ms, seq, ARGV[7])
local made, floor, last, octets, whole = known[1], known[2], known[3], tonumber(known[4]), known[5] == '1'
local last_ms, last_seq = parts(last)
if behind(last_ms, last_seq, ms, seq) then ms, seq = last_ms, last_seq end
local answers, news, refused, uids = {}, {'r ' .. made .. ' ' .. last}, false, 2
-- What may be somebody else's key is read before anything is written: an error leaves nothing half done.
local length, firsts = redis.call('XLEN', stream), {}
for i = 3, #KEYS do firsts[KEYS[i]] = redis.call('GET', KEYS[i]) end

local function find_number(name)
  local to = '+'
  while true do
    local some = redis.call('XREVRANGE', stream, to, '-', 'COUNT', 256)
    for _, entry in ipairs(some) do
      if entry[2][2] == name then return entry[1] end
      to = '(' .. entry[1]
    end
    if #some == 0 then return '' end
  end
end

for i = 10, #ARGV, 4 do
  local origin, number, text, uid = ARGV[i], ARGV[i + 1], ARGV[i + 3], nil
  if ARGV[i + 2] == '1' then
    uids = uids + 1
    uid = KEYS[uids]
  end
  local highest = redis.call('HGET', meta, 'n:' .. origin)
  local first = nil
  if highest and tonumber(number) <= tonumber(string.match(highest, '^%d+')) then
    first = find_number(origin .. '.' .. number)
  else
    redis.call('HSET', meta, 'n:' .. origin, number .. ' ' .. now)
    first = uid and firsts[uid]
  end
  if first then
    answers[#answers + 1] = first .. ' 1'
    refused = true
  else
    ms, seq = following(ms, seq)
    local position = id(ms, seq)
    redis.call('XADD', stream, position, 'k', origin .. '.' .. number, 'r', text)
    if uid then
      redis.call('SET', uid, position, 'PX', ARGV[8])
      firsts[uid] = position
    end
    length = length + 1
    octets = octets + #text
    answers[#answers + 1] = position .. ' 0'
    news[1] = news[1] .. ' ' .. position
    news[#news + 1] = text
    last = position
  end
end

local floor_ms, floor_seq = parts(floor)
if ARGV[9] ~= '' and whole and not refused then
  whole = false
  local said_ms, said_seq = parts(ARGV[9])
  if behind(floor_ms, floor_seq, said_ms, said_seq) then floor_ms, floor_seq = said_ms, said_seq end
end

-- The oldest go: over the count, the octets or the age.
local count, most, oldest = tonumber(ARGV[4]), tonumber(ARGV[5]), now - tonumber(ARGV[6])
local gone, start, enough = nil, '-', false
repeat
  local some = redis.call('XRANGE', stream, start, '+', 'COUNT', math.max(1, math.min(64, length - count + 1)))
  enough = #some == 0
  for _, entry in ipairs(some) do
    if length <= count and octets <= most and parts(entry[1]) >= oldest then
      enough = true
      break
    end
    gone = entry[1]
    start = '(' .. gone
    length = length - 1
    octets = octets - #entry[2][4]
  end
until enough
if gone then
  local gone_ms, gone_seq = parts(gone)
  if behind(gone_ms, gone_seq, floor_ms, floor_seq) then floor_ms, floor_seq = gone_ms, gone_seq end
  redis.call('XTRIM', stream, 'MINID', id(gone_ms, gone_seq + 1))
  whole = false
end

-- Origins that have been silent for long are forgotten, when there are many.
if redis.call('HLEN', meta) > 1024 then
  local all = redis.call('HGETALL', meta)
  for i = 1, #all, 2 do
    local heard = string.match(all[i], '^n:') and tonumber(string.match(all[i + 1], ' (%d+)$'))
    if heard and heard < now - tonumber(ARGV[7]) then redis.call('HDEL', meta, all[i]) end
  end
end
redis.call('HSET', meta, 'last', last, 'floor', id(floor_ms, floor_seq), 'octets', octets, 'whole', whole and 1 or 0)
redis.call('PEXPIRE', stream, ARGV[7])  -- it may be new
if #news > 1 then redis.call('PUBLISH', ARGV[1], table.concat(news, '\\n')) end
return answers
"""
)
"""For each record its position, or nothing where that is not known, and "1" if it was there before."""
