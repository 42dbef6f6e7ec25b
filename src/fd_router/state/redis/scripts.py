"""What the server does in one step: letting requests in by a key whose limits all routers share."""

from __future__ import annotations

RESERVE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local most = {tonumber(ARGV[1]), tonumber(ARGV[2])}
local kept = redis.call('HMGET', KEYS[1], 'r', 't', 'at', 'rm', 'tm')
local level = {}
for kind = 1, 2 do
  local had, size = tonumber(kept[kind]), tonumber(kept[kind + 3])
  if had == nil or size == nil or size <= 0 then
    level[kind] = most[kind]
  else
    had = math.min(size, had + math.max(0, now - tonumber(kept[3])) * size / 60)
    level[kind] = had * most[kind] / size
  end
end
local granted = 0
for place = 3, #ARGV do
  local tokens = tonumber(ARGV[place])
  if most[1] > 0 and level[1] < 1 then break end
  if most[2] > 0 and level[2] < math.min(tokens, most[2]) then break end
  level[1] = level[1] - 1
  level[2] = level[2] - tokens
  granted = granted + 1
end
if most[1] == 0 then level[1] = 0 end
if most[2] == 0 then level[2] = 0 end
redis.call('HSET', KEYS[1], 'r', tostring(level[1]), 't', tostring(level[2]), 'at', string.format('%.6f', now),
  'rm', most[1], 'tm', most[2])
redis.call('PEXPIRE', KEYS[1], 180000)
return {granted, tostring(level[1]), tostring(level[2])}
"""
"""KEYS: a key's bucket. ARGV: its requests and tokens a minute (0: no limit), then the tokens of each request.

Returns how many of them, the first ones, are let in, and what is left. A bucket that has other limits than before keeps
the share that was used, as ``admission.allowance.Bucket`` does. Its clock is the server's, so nobody else's counts.
"""

SETTLE = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'r', ARGV[1], 't', ARGV[2], 'rm', ARGV[1], 'tm', ARGV[2],
    'at', string.format('%.6f', tonumber(time[1]) + tonumber(time[2]) / 1000000))
end
redis.call('HINCRBYFLOAT', KEYS[1], 'r', -tonumber(ARGV[3]))
redis.call('HINCRBYFLOAT', KEYS[1], 't', -tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[1], 180000)
return 0
"""
"""KEYS: a key's bucket. ARGV: its requests and tokens a minute; how many of both are taken from what is left.

They may be below 0, where there were fewer tokens than was thought. A bucket that isn't there was full.
"""

LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder == false or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
return 0
"""
"""KEYS: a lease. ARGV: who wants it, or has it; for how many milliseconds. Returns 1 when it is his."""
