-- rate: takes slots that free themselves, of all these limits; where they are not free yet, those that will be next.
-- KEYS: baton:rated:<operation>, then the limits.
-- ARGV: how many slots of each, seconds that may be waited at most or '', 'strict' (every limit has to be there) or '',
--       how many limits, their names.
-- Answer: {tag, name of a limit or '', seconds}. OK: they are taken, to be used after so many seconds. LATE: that would
--       be longer than may be waited; nothing was taken. OVER: that limit never has so many. UNKNOWN: there is no such
--       limit. FIXED: its slots do not free themselves.
-- What is used at a time is max(0, used - decay x seconds since). A limit notes it for the moment at which what was taken
-- last may be used: asked before that, it answers for later, so nobody is passed and no call has to ask twice.
-- Repeatable: an operation is answered the same for a while after its slots may be used.
-- Calls: GET HMGET HSET SET TIME TYPE

local wanted, patience, is_strict = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] ~= ''
local before = try('GET', KEYS[1])
if type(before) == 'string' then
  local left = tonumber(before) - NOW
  return { 'OK', '', format('%.6f', left > 0 and left or 0) }
end

local limits, wait = {}, 0
for i = 1, tonumber(ARGV[4]) do
  local key, name = KEYS[1 + i], ARGV[4 + i]
  local wrong = misfit(key, 'hash')
  if wrong then return redis.error_reply(wrong) end
  local found = call('HMGET', key, 'slots', 'decay', 'used', 'used_at')
  if found[1] then
    local slots, decay = number_in(found[1]) or 0, number_in(found[2])
    if not decay or decay == 0 then return { 'FIXED', name, '0' } end
    if wanted > slots then return { 'OVER', name, '0' } end
    local used, used_at = number_in(found[3]) or 0, number_in(found[4]) or NOW
    used = math.max(0, used - decay * (NOW - used_at))
    limits[#limits + 1] = { key = key, decay = decay, used = used }
    wait = math.max(wait, (used + wanted - slots) / decay)
  elseif is_strict then
    return { 'UNKNOWN', name, '0' }
  end
end
if patience and wait > patience then return { 'LATE', '', format('%.6f', wait) } end
for _, limit in ipairs(limits) do
  local used = math.max(0, limit.used - limit.decay * wait) + wanted
  call('HSET', limit.key, 'used', format('%.9f', used), 'used_at', format('%.6f', NOW + wait))
end
if #limits > 0 then call('SET', KEYS[1], format('%.6f', NOW + wait), 'EX', math.ceil(wait) + 20) end
return { 'OK', '', format('%.6f', wait) }
