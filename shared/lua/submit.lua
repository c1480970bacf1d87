-- submit: accepts runs: hash, parameters, first state, history, place, publication, all in one step.
-- KEYS: rq:queues, baton:tasks, baton:counts, then per distinct queue: its list, its due set.
-- ARGV: how many runs, then per run: id, queue, task, delay in seconds or '', at_front ('1' or ''), parameters,
--       how many further hash fields f, then f names and values, flat.
-- Answer per run: OK, EXISTS (this very submit was accepted before), CONFLICT (another run has this id).
-- A repeat after a lost reply is known by id, task and parameters, whatever happened to the run since: also by what is
-- left of it where somebody deleted its hash.
-- Calls: TIME TYPE EXISTS GET HSET HGET SET RPUSH LPUSH LLEN PUBLISH SADD ZADD ZRANGE HINCRBY EXPIRE HDEL
--        HINCRBYFLOAT LINDEX LTRIM

local answers, at = {}, 2

local wrong = misfit(QUEUES, 'set') or misfit(TASKS, 'set')
for i = 4, #KEYS, 2 do wrong = wrong or misfit(KEYS[i], 'list') or misfit(KEYS[i + 1], 'zset') end
if wrong then return redis.error_reply(wrong) end

local known = {}
local function introduce(queue, task)
  if not known[queue] then call('SADD', QUEUES, QUEUE .. queue) end
  if not known[task] then call('SADD', TASKS, task) end
  known[queue], known[task] = true, true
end

local function accept(id, queue, task, delay, at_front, parameters, set)
  local run = { id = id, key = JOB .. id, queue = queue, task = task, seq = 0, attempt = 0, ran = 0, rows = 0 }
  local due = delay and due_in(delay)
  local due_text = due and iso_of(due)
  local n = #set
  set[n + 1], set[n + 2] = 'origin', queue
  set[n + 3], set[n + 4] = 'description', short(task)
  set[n + 5], set[n + 6] = 'task', task
  set[n + 7], set[n + 8] = 'created_at', NOW_ISO
  set[n + 9], set[n + 10] = due and 'expected_start' or 'enqueued_at', due_text or NOW_ISO
  -- RQ calls what this names if a stock worker takes the run; ours never reads it. A pickle in its text form, so that
  -- clients that decode every reply can read the hash; of exactly 64 bytes.
  set[n + 11], set[n + 12] = 'data', '(Vworker.entry.run\nN(V' .. id .. '\nt(dt.'
  record(run, due and 'SCHEDULED' or 'PENDING', due and 'Scheduled' or 'Pending', { due = due_text }, set)
  call('SET', RUN .. id .. ':parameters', parameters)
  introduce(queue, task)
  if due then schedule(run, due) else enqueue(run, at_front) end
  count(TODAY, 'submitted', 1)
  return 'OK'
end

for i = 1, tonumber(ARGV[1]) do
  local id, parameters, fields = ARGV[at], ARGV[at + 5], tonumber(ARGV[at + 6])
  if call('EXISTS', JOB .. id, RUN .. id .. ':history') > 0 then
    local task = try('HGET', JOB .. id, 'task') or ARGV[at + 2]
    local is_same = task == ARGV[at + 2] and try('GET', RUN .. id .. ':parameters') == parameters
    answers[i] = is_same and 'EXISTS' or 'CONFLICT'
  else
    local set = {}
    for k = 1, 2 * fields do set[k] = ARGV[at + 6 + k] end
    local delay = ARGV[at + 3] ~= '' and tonumber(ARGV[at + 3]) or nil
    answers[i] = accept(id, ARGV[at + 1], ARGV[at + 2], delay, ARGV[at + 4] == '1', parameters, set)
  end
  at = at + 7 + 2 * fields
end
flush()
return answers
