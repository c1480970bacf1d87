-- take: gives a process slots of all these limits, or of none; else lets it wait for them, behind those that wait already.
-- KEYS: baton:leases, baton:slots:<process>, baton:limits, then per limit: itself, its holders, its waiters.
-- ARGV: process, name of the hold, how many slots of each, the attempt that takes them (id:token) or '-', 'wait' or '',
--       'strict' (every limit has to be there) or '', 'lock' (one that is not there is made, for one holder) or '',
--       how many limits, their names.
-- Answer: {tag, name of a limit or ''}. OK: it holds them (limits that are not there count for nothing). WAIT: it waits in
--       the row of that limit and is woken, or asks again in two seconds. FULL: it would have to wait. OVER: that limit
--       never has so many. UNKNOWN: there is no such limit. BURIED: the process has no lease.
-- Repeatable: under the same hold it is told again what it has. Whoever asks no more for 30 seconds waits no more.
-- Calls: DEL EXISTS EXPIRE HDEL HGET HINCRBY HINCRBYFLOAT HMGET HSET LINDEX LLEN LPUSH LTRIM PUBLISH RPUSH SADD SREM
--        TIME TYPE ZADD ZCARD ZRANGE ZREM ZSCORE

local process, hold, wanted, attempt = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local may_wait, is_strict, is_lock = ARGV[5] ~= '', ARGV[6] ~= '', ARGV[7] ~= ''
local names = {}
for i = 1, tonumber(ARGV[8]) do names[i] = ARGV[8 + i] end

local wrong = misfit(LEASES, 'zset') or misfit(KEYS[2], 'hash') or misfit(LIMITS, 'set')
for _, name in ipairs(names) do
  wrong = wrong or misfit(LIMIT .. name, 'hash') or misfit(LIMIT .. name .. ':holders', 'zset')
    or misfit(LIMIT .. name .. ':waiters', 'zset')
end
if wrong then return redis.error_reply(wrong) end

if not has_lease(process) then return { 'BURIED', '' } end

local there, slots_of = {}, {}
for _, name in ipairs(names) do
  local slots = call('HGET', LIMIT .. name, 'slots') or (is_lock and '1')
  if slots then
    there[#there + 1], slots_of[name] = name, slots_in(slots)
    if wanted > slots_of[name] then return { 'OVER', name } end
  elseif is_strict then
    return { 'UNKNOWN', name }
  end
end

local function has(name)
  return call('ZSCORE', LIMIT .. name .. ':holders', process .. '/' .. hold .. '/1')
end

-- True if it has to wait: newcomers pass nobody.
local function is_full(name)
  return call('ZCARD', LIMIT .. name .. ':holders') + wanted > slots_of[name] or call('EXISTS', LIMIT .. name .. ':waiters') == 1
end

-- Those who wait look after a limit themselves, since there may be no fleet: once a second, however many they are.
local function look_after(name)
  local last = tonumber(call('HGET', LIMIT .. name, 'mended_at') or nil)
  if last and NOW - last < 1 then return end
  call('HSET', LIMIT .. name, 'mended_at', format('%.3f', NOW))
  mend(name)
end

local entry = entry_of(process, hold)
if not entry then
  entry = { since = format('%.6f', NOW), slots = wanted, attempt = attempt, names = table.concat(names, ' ') }
end
entry.state, entry.asked = 'waits', NOW
note(process, hold, entry)

for _, name in ipairs(there) do
  if is_lock and call('EXISTS', LIMIT .. name) == 0 then
    call('HSET', LIMIT .. name, 'slots', 1, 'lock', 1)
    call('SADD', LIMITS, name)
  end
end

local full
for _, name in ipairs(there) do
  if not has(name) and is_full(name) then
    look_after(name)
    if not has(name) and is_full(name) then
      full = name
      break
    end
  end
end

local answer
if not full then
  for _, name in ipairs(there) do
    if not has(name) then occupy(LIMIT .. name .. ':holders', process, hold, wanted) end
  end
  call('DEL', SLOT .. hold)
  entry.state = 'held'
  if #there > 0 then note(process, hold, entry) else call('HDEL', KEYS[2], hold) end
  answer = { 'OK', '' }
elseif may_wait then
  call('ZADD', LIMIT .. full .. ':waiters', entry.since, process .. '/' .. hold .. '/' .. wanted)
  for _, name in ipairs(there) do
    if name ~= full then clear(name, process, hold, wanted) end
  end
  answer = { 'WAIT', full }
else
  give_up(process, hold, entry)
  answer = { 'FULL', full }
end
flush()
return answer
