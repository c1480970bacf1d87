-- keep: keeps results under keys of their own, all or none; what is kept for no time is deleted.
-- KEYS: baton:result of each.
-- ARGV: of each its lifetime in milliseconds ('' for ever), the record.
-- Answer: how many were kept.
-- Repeatable: it writes what shall hold; a lifetime counts from the last try.
-- Calls: DEL SET TIME

for i = 1, #KEYS do
  local life = ARGV[2 * i - 1]
  if not ARGV[2 * i] or not (life == '' or find(life, '^%d+$')) then
    return redis.error_reply('ERR keep: a lifetime and a record for each key')
  end
end
local kept = 0
for i = 1, #KEYS do
  local life, data = ARGV[2 * i - 1], ARGV[2 * i]
  if tonumber(life) == 0 then
    call('DEL', KEYS[i])
  else
    if life == '' then call('SET', KEYS[i], data) else call('SET', KEYS[i], data, 'PX', life) end
    kept = kept + 1
  end
end
return kept
