-- await: tells workers that somebody waits for these runs: they are begun before others of their queues.
-- KEYS: baton:running.
-- ARGV: how many, then ids. Of a run that waits for others, those are awaited too.
-- Answer: {how many hints were left, ids that were not looked at any more}: 500 runs are looked at in one call.
-- The run itself is marked until it ends: whatever queues it later leaves a hint again. A hint is no place. A repeat
-- leaves one only where none lies, since hints can be lost: so they do not grow while nobody takes them.
-- Calls: EXISTS EXPIRE HINCRBY HINCRBYFLOAT HMGET HSET LLEN LPUSH RPUSH SMEMBERS TIME TYPE

local seen, todo, looked, left, is_empty = {}, {}, 0, 0, {}
for i = 1, tonumber(ARGV[1]) do todo[i] = ARGV[2 + tonumber(ARGV[1]) - i] end

local function mark(run)
  local is_new = not run.awaited
  if is_new then call('HSET', run.key, 'awaited', '1', 'ties', '1') end
  if run.place == 'deferred' then
    for _, upstream in ipairs(try('SMEMBERS', RUN .. run.id .. ':waits')) do todo[#todo + 1] = upstream end
  elseif run.type == 'PENDING' and not run.place then
    if is_empty[run.queue] == nil then is_empty[run.queue] = try('LLEN', AWAITED .. run.queue) == 0 end
    if is_new or is_empty[run.queue] then
      hint(run)
      wake(WAKE .. run.queue, 1)
      left = left + 1
    end
  end
end

-- The last one first: so what is reached at all is reached down to what waits for nobody.
while #todo > 0 and looked < AT_ONCE do
  local id = table.remove(todo)
  if not seen[id] then
    seen[id], looked = true, looked + 1
    local run = load(id)
    if run and not REGISTRY[run.type] then mark(run) end
  end
end
flush()
return { left, todo }
