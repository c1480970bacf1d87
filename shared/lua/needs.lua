-- needs: writes how many runs need the results of others, as a scan found them, where that is as it was at that scan.
-- KEYS: rq:queues.
-- ARGV: how many, then per run: id, its field `consumers` as the scan saw it ('' for none), how many the scan found.
-- Answer per run: 1 if it was written, 0 if it has moved or is gone.
-- What follows for the run's lifetime is for reconcile.
-- Calls: HDEL HGET HSET TIME

local answers = {}

local function write(id, seen, found)
  local key = JOB .. id
  if type(try('HGET', key, 'state_type')) ~= 'string' or (call('HGET', key, 'consumers') or '') ~= seen then return 0 end
  if found == '0' then call('HDEL', key, 'consumers') else call('HSET', key, 'consumers', found, 'ties', '1') end
  return 1
end

for i = 1, tonumber(ARGV[1]) do answers[i] = write(ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1]) end
return answers
