-- sweep: runs whose retention is over leave the registries, and whatever keys they still have go with them; ids of runs
-- that are gone leave the indexes of tags, of 20 tags a call.
-- KEYS: rq:queues, baton:tags.
-- ARGV: how many runs at most.
-- Answer: how many runs were removed; as many as asked for means that there may be more to do.
-- Calls: DEL EXISTS HGET SMEMBERS SRANDMEMBER SREM TIME TYPE ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM

local most, removed = tonumber(ARGV[1]), 0

local function remove(id, registry, prefix)
  local key = JOB .. id
  removed = removed + 1
  local consumers = try('HGET', key, 'consumers')
  if type(consumers) == 'string' and (number_in(consumers) or 0) > 0 then
    call('ZADD', registry, SEC + 3600, id) -- others still need what it returned: it goes when they have ended
    return
  end
  call('ZREM', registry, id)
  -- Only the row goes where it is stale, for the run lives again or has ended otherwise since, or where it is no run of
  -- ours: a job of RQ's has its own lifetime, and may be waiting again under the same id.
  local state = try('HGET', key, 'state_type')
  if state and REGISTRY[state] ~= prefix or not state and call('EXISTS', key) == 1 then return end
  local keys = { key }
  for _, part in ipairs(PARTS) do keys[#keys + 1] = RUN .. id .. ':' .. part end
  call('DEL', unpack(keys))
end

for _, member in ipairs(call('SMEMBERS', KEYS[1])) do
  local queue = sub(member, 1, #QUEUE) == QUEUE and sub(member, #QUEUE + 1) or member
  for _, prefix in ipairs({ FINISHED, FAILED, CANCELED }) do
    local registry = prefix .. queue
    if removed < most and not misfit(registry, 'zset') then
      for _, id in ipairs(call('ZRANGEBYSCORE', registry, '-inf', SEC, 'LIMIT', 0, most - removed)) do remove(id, registry, prefix) end
    end
  end
end

local looked, gone = 0, 0

-- Looks at some of the oldest ids, and at some from anywhere: what is behind old runs that live on would stay else.
local function trim(tag)
  local index = TAG .. tag .. ':runs'
  local size = try('ZCARD', index)
  for _, first in ipairs(type(size) == 'number' and { 0, USEC % math.max(size, 1) } or {}) do
    for _, id in ipairs(call('ZRANGE', index, first, first + 99)) do
      looked = looked + 1
      if call('EXISTS', JOB .. id) == 0 then gone = gone + call('ZREM', index, id) end
    end
  end
  if type(size) == 'number' and call('EXISTS', index) == 0 then call('SREM', KEYS[2], tag) end
end

local tags = try('SRANDMEMBER', KEYS[2], 20)
for i = 1, #tags do trim(tags[i]) end
return gone * 2 > looked and math.max(most, removed) or removed
