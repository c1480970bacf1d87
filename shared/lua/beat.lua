-- beat: renews the leases of a fleet's live processes and their registration with RQ.
-- KEYS: baton:leases, rq:workers.
-- ARGV: lease in seconds, lifetime of a registration in seconds, seconds that a process has to end a cancelled run, how
--       many workers, then per worker: name,
--       'new' or '' (a new one gets its first lease), how many queues q, their names, how many fields f, names and
--       values, flat.
-- Answer: {buried, cancelled, draining, whether all of the fleet is}: names of the buried, whose lease was taken away and never comes back under this name; and
--       worker, id and token, flat, of every run that a worker holds and has to end. Among those are runs that RQ's tools
--       cancelled. Draining are workers that are to end when they have finished what runs.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HINCRBY HINCRBYFLOAT HKEYS HMGET HSET LINDEX LLEN LPOP LPUSH LTRIM
--        PERSIST PUBLISH RPUSH SADD SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZREM ZSCORE

local lease, lifetime, patience, at = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), 5
local buried, to_cancel, draining, whole_fleet = {}, {}, {}, 0

local wrong = misfit(LEASES, 'zset') or misfit(WORKERS, 'set') or misfit(DEADLINES, 'zset')
if wrong then return redis.error_reply(wrong) end

local function look_at_hand_of(worker)
  local held = try('HKEYS', HELD .. worker .. ':runs')
  for i = 1, #held do
    local found = try('HMGET', JOB .. held[i], 'state_type', 'status', 'token')
    if (found[1] == 'RUNNING' or found[1] == 'PAUSED') and found[2] == STATUS.CANCELLED then
      local run = load(held[i])
      if run and run.worker == worker then
        call('ZREM', CANCELED .. run.queue, run.id)
        call('PERSIST', run.key)
        cancel(run, 'Cancelled with RQ.', 'rq', 0, patience)
        found[1] = run.type
      end
    end
    if found[1] == 'CANCELLING' and found[3] then
      local n = #to_cancel
      to_cancel[n + 1], to_cancel[n + 2], to_cancel[n + 3] = worker, held[i], found[3]
    end
  end
end

open_writes()
for _ = 1, tonumber(ARGV[4]) do
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
    look_at_hand_of(name)
    local wish = try('HGET', key, 'drain')
    if type(wish) == 'string' then draining[#draining + 1] = name end
    if wish == 'fleet' then whole_fleet = 1 end
  else
    buried[#buried + 1] = name
  end
  at = fields_at + 2 * fields + 1
end
flush()
return { buried, to_cancel, draining, whole_fleet }
