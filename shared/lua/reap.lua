-- reap: takes the lease from workers that are over and puts what they held back into the queues.
-- KEYS: baton:leases, baton:running, baton:counts, rq:workers, baton:quarantine.
-- ARGV: crash budget, retention in seconds of a crashed run, of a cancelled run, how many workers are named, then per
--       named worker: name, why, and which of its runs it had started: ids with spaces between them, '' for none, '*'
--       for "not known: any".
--       None named: those whose lease is over by the server's clock, up to 500 of their runs; then follows the length of
--       a lease in seconds, for workers that do not tell their own. Leases that end much later are cut to that.
-- Answer: per worker four values, flat: name, runs put back as lost, runs ended, runs put back uncounted. A worker is
--       left as it is, and out of the answer, while a run of it cannot be moved or its hooks cannot be given back (a
--       place of that queue is not ours).
-- Why reads on after "Attempt 2 was lost: ". '' is a planned stop: nothing is lost but a body that may start only once,
-- everything goes back uncounted.
-- Calls: DEL EXISTS EXPIRE EXPIREAT GET HDEL HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HMGET HSET LINDEX LLEN LPOP LPUSH
--        LRANGE LTRIM PUBLISH RPUSH SET SISMEMBER SMEMBERS SPOP SREM TIME TYPE XADD ZADD ZCARD ZRANGE ZRANGEBYSCORE ZREM
--        ZSCORE

local budget, crash_retention, cancel_retention = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local named = tonumber(ARGV[4])

local wrong = misfit(LEASES, 'zset') or misfit(RUNNING, 'zset')
if wrong then return redis.error_reply(wrong) end

local function lose(run, why, worker)
  local message = 'Attempt ' .. run.attempt .. ' was lost: ' .. why .. '.'
  if run.attempt == 0 then message = 'Lost before its first attempt: ' .. why .. '.' end
  if run.crashes + 1 < budget and run.on_crash ~= 'fail' and not is_inline(worker) then
    put_back(run, message, true, worker)
    return true
  end
  quarantine('crashed', 'run', run.id, 'worker', worker, 'message', message)
  if run.attempt > 0 then call('HSET', run.key, 'crashes', run.crashes + 1) end
  count(TODAY, 'lost', 1)
  local outcome = { state = 'CRASHED', name = 'Crashed', message = message, error = message, retention = crash_retention }
  end_elsewhere(run, outcome, { worker = worker })
  return false
end

-- Ends the worker's registration with RQ; a row of who died stays for a minute, as RQ's own workers leave one.
local function unregister(worker)
  local key = WORKER .. worker
  local queues = try('HGET', key, 'queues')
  try('SREM', KEYS[4], key)
  for queue in string.gmatch(type(queues) == 'string' and queues or '', '[^,]+') do try('SREM', WORKERS_OF .. queue, key) end
  if call('EXISTS', key) == 1 then
    try('HSET', key, 'death', NOW_ISO)
    call('EXPIRE', key, 60)
  end
end

-- Gives back the hooks that a worker had taken. Those that its process was lost with, as often as runs may be, are put
-- aside: they would take one process after the other with them.
local function give_back_hooks(worker, why)
  local taken = HOOKS_TAKEN .. worker
  local entries = try('LRANGE', taken, 0, -1)
  for i = 1, #entries do
    local id, seq, lost = string.match(entries[i], '^(%S+) (%d+) (%d+)$')
    local run = id and load(id)
    lost = (tonumber(lost) or 0) + (why ~= '' and 1 or 0)
    if run and lost < budget then
      owe_hooks(run.queue, id .. ' ' .. seq .. ' ' .. lost)
    elseif run then
      quarantine('hooks', 'run', id, 'worker', worker, 'message', 'Lost while its hooks ran: ' .. why .. '.')
    end
  end
  if #entries > 0 then call('DEL', taken) end
end

-- True if hooks that a worker had taken are of a run whose queue nobody can tell before that is mended.
local function has_stuck_hooks(worker)
  local entries = try('LRANGE', HOOKS_TAKEN .. worker, 0, -1)
  for i = 1, #entries do
    local _, _, stuck = load(string.match(entries[i], '^%S*'))
    if stuck then return true end
  end
end

-- Answers how many runs the worker held and its row of the answer; nothing for a worker that has to wait.
local function bury(worker, why, current)
  local hand, lost, ended, uncounted = hand_of(worker), 0, 0, 0
  local started = {}
  if has_stuck_hooks(worker) then return end
  for id in string.gmatch(current, '%S+') do started[id] = true end
  for _, entry in ipairs(hand) do
    local run, problem, stuck = load(entry.id)
    if stuck then return end
    entry.run, entry.problem = run, problem
  end
  local had_lease = call('ZREM', KEYS[1], worker) == 1
  give_up_all(worker)
  give_back_hooks(worker, why)
  if not had_lease and #hand == 0 then return 0, { worker, 0, 0, 0 } end
  for _, entry in ipairs(hand) do
    -- What was ended before it may have changed what ties it.
    local run, problem = entry.run and entry.run.ties and load(entry.id) or entry.run, entry.problem
    if not run then
      if problem == 'BROKEN' then quarantine('unreadable', 'run', entry.id, 'worker', worker) end
    elseif run.worker == worker and is_held(run) then
      if run.type == 'CANCELLING' then
        end_elsewhere(run, cancelled(cancel_retention), { worker = worker })
        ended = ended + 1
      elseif is_inline(worker) then
        lose(run, why ~= '' and why or 'its process ended', worker)
        ended = ended + 1
      elseif run.type == 'PENDING' then
        take_back(run)
        uncounted = uncounted + 1
      elseif (why ~= '' or run.on_crash == 'fail') and (started['*'] or started[run.id]) then
        -- A planned stop loses nothing but a body that may start only once.
        if lose(run, why ~= '' and why or 'the worker was stopped', worker) then lost = lost + 1 else ended = ended + 1 end
      else
        put_back(run, why == '' and 'Given back: the worker stopped.' or 'Given back: its worker is gone.', false, worker)
        uncounted = uncounted + 1
      end
    end
  end
  call('DEL', HELD .. worker .. ':runs')
  unregister(worker)
  return #hand, { worker, lost, ended, uncounted }
end

-- Leases from before the server's clock was set back: nobody would outlive them.
local function shorten(lease)
  for _, worker in ipairs(call('ZRANGEBYSCORE', KEYS[1], format('(%.3f', NOW + 2 * lease), '+inf', 'LIMIT', 0, 100)) do
    local own = try('HGET', WORKER .. worker, 'lease')
    own = math.max(lease, type(own) == 'string' and number_in(own) or 0)
    if tonumber(call('ZSCORE', KEYS[1], worker)) > NOW + 2 * own then
      call('ZADD', KEYS[1], format('%.3f', NOW + own), worker)
    end
  end
end

local answers = {}
local function add(row)
  for i = 1, row and 4 or 0 do answers[#answers + 1] = row[i] end
end

open_writes()
if named > 0 then
  for i = 1, named do
    local _, row = bury(ARGV[2 + 3 * i], ARGV[3 + 3 * i], ARGV[4 + 3 * i])
    add(row)
  end
else
  shorten(tonumber(ARGV[5]))
  local moved = 0
  for _, worker in ipairs(call('ZRANGEBYSCORE', KEYS[1], '-inf', format('%.3f', NOW), 'LIMIT', 0, 100)) do
    if moved >= 500 then break end
    local held, row = bury(worker, 'the lease of ' .. worker .. ' ended', '*')
    moved = moved + (held or 0)
    add(row)
  end
end
flush()
return answers
