-- hooks: a worker takes the hooks of an end that a script made, or has done with what it took.
-- KEYS: baton:leases, rq:worker:<w>, baton:hooks:of:<w>, then baton:hooks:<q> of each of its queues.
-- ARGV: worker, then '' to take, or the entry that was taken, and 'back' if it is for another worker.
-- Answer: {tag, entry}. tag: OK, BURIED (the lease is over: nothing was done). The entry `<id> <seq> <times lost>` is the
--       worker's until it is done with it; '' if nothing is due for it. Who holds one is answered the same again.
-- Entries of runs that are gone are dropped; those of unknown tasks go to the tail, 100 a call.
-- Calls: EXISTS EXPIRE HGET HINCRBY HINCRBYFLOAT HMGET LINDEX LLEN LPOP LPUSH LREM RPUSH TIME TYPE XADD ZREM ZSCORE

local worker, entry, is_for_others = ARGV[1], ARGV[2], ARGV[3] == 'back'
local taken, LOOKED_AT = KEYS[3], 100

local wrong = misfit(taken, 'list')
if wrong then return redis.error_reply(wrong) end
if not call('ZSCORE', KEYS[1], worker) then return { 'BURIED', '' } end

-- The next entry of a queue for this worker, or nil.
local function next_of(list)
  local kept, found = {}, nil
  for _ = 1, LOOKED_AT do
    local next_entry = try('LPOP', list)
    if type(next_entry) ~= 'string' then break end
    local run, why, stuck = load(string.match(next_entry, '^%S*'))
    if run and knows(KEYS[2], run.task) then
      found = next_entry
      break
    elseif run or stuck then
      kept[#kept + 1] = next_entry
    elseif why == 'BROKEN' then
      quarantine('unreadable', 'run', string.match(next_entry, '^%S*'))
    end
  end
  for i = 1, #kept do call('RPUSH', list, kept[i]) end
  return found
end

open_writes()
if entry ~= '' then
  local was_there = call('LREM', taken, 0, entry)
  local run = is_for_others and was_there > 0 and load(string.match(entry, '^%S*'))
  if run then owe_hooks(run.queue, entry) end
  flush()
  return { 'OK', '' }
end
local held = call('LINDEX', taken, 0)
for i = 4, #KEYS do
  if held then break end
  held = next_of(KEYS[i]) or false
  if held then call('RPUSH', taken, held) end
end
flush()
return { 'OK', held or '' }
