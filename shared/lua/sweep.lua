-- sweep: runs whose retention is over leave the registries, and whatever keys they still have go with them.
-- KEYS: rq:queues.
-- ARGV: how many runs at most.
-- Answer: how many were removed; as many as asked for means that there may be more.
-- Calls: TIME SMEMBERS ZRANGEBYSCORE ZREM HGET DEL EXISTS TYPE

local most, removed = tonumber(ARGV[1]), 0

local function remove(id, registry, prefix)
  call('ZREM', registry, id)
  removed = removed + 1
  -- Only the row goes where it is stale, for the run lives again or has ended otherwise since, or where it is no run of
  -- ours: a job of RQ's has its own lifetime, and may be waiting again under the same id.
  local key = JOB .. id
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
return removed
