-- beat: renews the leases of a fleet's live processes and their registration with RQ.
-- KEYS: baton:leases, rq:workers.
-- ARGV: lease in seconds, lifetime of a registration in seconds, how many workers, then per worker: name,
--       'new' or '' (a new one gets its first lease), how many queues q, their names, how many fields f, names and
--       values, flat.
-- Answer: names of the buried: their lease was taken away, it never comes back under this name.
-- Calls: TIME TYPE ZSCORE ZADD ZREM HSET EXPIRE SADD HGET

local lease, lifetime, at, buried = tonumber(ARGV[1]), tonumber(ARGV[2]), 4, {}

local wrong = misfit(LEASES, 'zset') or misfit(WORKERS, 'set')
if wrong then return redis.error_reply(wrong) end

open_writes()
for _ = 1, tonumber(ARGV[3]) do
  local name, queues = ARGV[at], tonumber(ARGV[at + 2])
  local key, fields_at = WORKER .. name, at + 3 + queues
  local fields = tonumber(ARGV[fields_at])
  -- A first beat that comes late, sent again by the network, finds the death of its worker.
  if call('ZSCORE', KEYS[1], name) or (ARGV[at + 1] == 'new' and try('HGET', key, 'death') == false) then
    call('ZADD', KEYS[1], format('%.3f', NOW + lease), name)
    local set = { 'last_heartbeat', NOW_ISO }
    for i = 1, 2 * fields do set[2 + i] = ARGV[fields_at + i] end
    try('HSET', key, unpack(set)) -- a registration that cannot be written costs nobody the lease
    call('EXPIRE', key, lifetime)
    call('SADD', KEYS[2], key)
    for q = 1, queues do try('SADD', WORKERS_OF .. ARGV[at + 2 + q], key) end
  else
    buried[#buried + 1] = name
  end
  at = fields_at + 2 * fields + 1
end
return buried
