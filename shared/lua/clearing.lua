-- How what waits in a queue is taken out of it by an operator: put after the attempts in front of the scripts that do so.

-- Takes up to so many ids from the head of a queue's list and gives each run that waits in it to `each`, in their order.
-- Tombstones are dropped. What cannot be read, and what RQ put there, goes to the tail: both are for whoever begins runs.
-- Answers how many ids were looked at.
local function clear_list(queue, most, each)
  local list, kept = QUEUE .. queue, {}
  local ids = call('LRANGE', list, 0, most - 1)
  for _, id in ipairs(ids) do
    local run, why = load(id)
    local is_here = run and run.queue == queue
    if is_here and run.type == 'PENDING' and not run.place then
      each(run)
    elseif why == 'BROKEN' or is_here and REGISTRY[run.type] and call('HGET', run.key, 'status') == STATUS.PENDING then
      kept[#kept + 1] = id
    end
  end
  if #ids > 0 then call('LTRIM', list, #ids, -1) end
  if #kept > 0 then call('RPUSH', list, unpack(kept)) end
  return #ids
end
