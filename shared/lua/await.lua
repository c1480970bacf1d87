-- await: tells workers that somebody waits for these runs: they are begun before others of their queues.
-- KEYS: baton:running.
-- ARGV: how many, then ids. Of a run that waits for others, those are awaited too, up to 500 in all.
-- Answer: how many hints were left. A hint is no place: a repeat leaves a second one, which is dropped.
-- Calls: EXISTS EXPIRE HINCRBY HINCRBYFLOAT HMGET LLEN LPUSH RPUSH SMEMBERS TIME TYPE

local seen, todo, left = {}, {}, 0
for i = 1, tonumber(ARGV[1]) do todo[i] = ARGV[1 + i] end

local at = 1
while todo[at] and at <= AT_ONCE do
  local id = todo[at]
  local run = not seen[id] and load(id)
  seen[id], at = true, at + 1
  if run and run.type == 'PENDING' and not run.place then
    try('RPUSH', AWAITED .. run.queue, id)
    wake(WAKE .. run.queue, 1)
    wake(WAKE_AWAITED .. run.queue, 1)
    left = left + 1
  elseif run and run.place == 'deferred' then
    for _, upstream in ipairs(try('SMEMBERS', RUN .. id .. ':waits')) do todo[#todo + 1] = upstream end
  end
end
flush()
return left
