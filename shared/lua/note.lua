-- note: what the process of a run says of it: its name, its progress, rows of its log, that it was rolled back.
-- KEYS: none; the runs are named by the arguments.
-- ARGV: how many runs, then per run: id, token, name or '', progress or '', '1' if it was rolled back, number of the last
--       row, how many rows, rows.
-- Answer per run: OK, FENCED (its attempt is another one by now), GONE, BROKEN.
-- Of a log are kept the first 200 rows and the last 800, and of these as many as are 256 kB in all.
-- A repeat is known by the number of its last row, which grows within an attempt.
-- Calls: DEL EXISTS EXPIRE HGET HINCRBY HINCRBYFLOAT HMGET HSET LLEN LPUSH LRANGE LTRIM RPUSH TIME TTL TYPE

local FIRST, MOST, BYTES = 200, 1000, 262144
local answers, at = {}, 2

-- Drops rows behind the first ones until the rest fits; answers how many bytes there are then.
local function fit(key, bytes)
  if call('LLEN', key) <= MOST and bytes <= BYTES then return bytes end
  local first, rest, dropped = call('LRANGE', key, 0, FIRST - 1), call('LRANGE', key, FIRST, -1), 0
  while dropped < #rest and (#rest - dropped > MOST - FIRST or bytes > BYTES) do
    dropped = dropped + 1
    bytes = bytes - #rest[dropped]
  end
  if dropped == #rest then call('DEL', key) else call('LTRIM', key, dropped - #rest, -1) end
  for i = 1, floor(#first / 2) do first[i], first[#first + 1 - i] = first[#first + 1 - i], first[i] end
  call('LPUSH', key, unpack(first))
  return bytes
end

local function log(run, token, last, rows, from)
  local key = RUN .. run.id .. ':logs'
  local of, number, bytes = string.match(call('HGET', run.key, 'logged') or '', '^(%d+) (%d+) (%d+)$')
  bytes = tonumber(bytes or 0)
  if of == token and tonumber(number) >= last then return end
  for i = from, from + rows - 1 do
    call('RPUSH', key, ARGV[i])
    bytes = bytes + #ARGV[i]
  end
  -- What lives as long as a run is looked for only where the run is marked.
  call('HSET', run.key, 'logged', token .. ' ' .. digits(last) .. ' ' .. digits(fit(key, bytes)), 'ties', '1')
  local left = call('TTL', run.key)
  if left >= 0 then call('EXPIRE', key, left) end
end

local function store(first)
  local id, token, name, progress = ARGV[first], ARGV[first + 1], given(ARGV[first + 2]), given(ARGV[first + 3])
  local last, rows = tonumber(ARGV[first + 5]), tonumber(ARGV[first + 6])
  local run, why = load(id)
  if not run or misfit(RUN .. id .. ':logs', 'list') then return why or 'BROKEN', first + 7 + rows end
  if digits(run.token) ~= token then return 'FENCED', first + 7 + rows end
  if name then call('HSET', run.key, 'name', short(name)) end
  if progress then call('HSET', run.key, 'progress', short(progress)) end
  if ARGV[first + 4] == '1' then call('HSET', run.key, 'rolled_back', 1) end
  if rows > 0 then log(run, token, last, rows, first + 7) end
  return 'OK', first + 7 + rows
end

for i = 1, tonumber(ARGV[1]) do answers[i], at = store(at) end
flush()
return answers
