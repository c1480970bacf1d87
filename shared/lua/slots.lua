-- What processes hold of limits, or wait for: put after prelude and places in front of the scripts that deal with it.
-- Everything that a process holds is noted with it, so that whoever buries it finds that. What is noted counts as long
-- as its process has a lease; what was taken by an attempt of a run counts no longer than that.

-- Seconds for which slots are kept for one who does not come for them.
local RESERVED = 30

local function entry_of(process, hold)
  local text = try('HGET', SLOTS .. process, hold)
  if type(text) ~= 'string' then return nil end
  local state, asked, since, slots, attempt, names = string.match(text, '^(%l+) (%S+) (%S+) (%d+) (%S+) (.*)$')
  if not state then return nil end
  return {
    state = state, asked = tonumber(asked) or 0, since = since, slots = tonumber(slots), attempt = attempt, names = names,
  }
end

local function note(process, hold, entry)
  call('HSET', SLOTS .. process, hold, table.concat({
    entry.state, format('%.3f', entry.asked), entry.since, entry.slots, entry.attempt, entry.names }, ' '))
end

-- True while an attempt of a run, written as id and token, may report.
local function is_going_on(attempt)
  local id, token = string.match(attempt, '^(.*):(%d+)$')
  local run = id and try('HMGET', JOB .. id, 'state_type', 'token', 'place') or {}
  return run[2] == token and (HELD_TYPES[run[1]] or run[3] == 'held') or false
end

local function still_counts(process, entry)
  if not (entry and has_lease(process)) then return false end
  if entry.state == 'waits' and entry.asked < NOW - RESERVED then return false end
  return entry.attempt == '-' or is_going_on(entry.attempt)
end

-- The limit of a lock goes with the last one who held it or waited for it.
local function tidy(name)
  if try('HGET', LIMIT .. name, 'lock') == '1' and call('EXISTS', LIMIT .. name .. ':holders') == 0
      and call('EXISTS', LIMIT .. name .. ':waiters') == 0 then
    call('DEL', LIMIT .. name)
    try('SREM', LIMITS, name)
  end
end

-- Takes a hold out of a limit, and gives what it had to the next. Answers true if it had slots.
local function clear(name, process, hold, slots)
  local had = 0
  for i = 1, slots do
    local taken = try('ZREM', LIMIT .. name .. ':holders', process .. '/' .. hold .. '/' .. i)
    had = had + (type(taken) == 'number' and taken or 0)
  end
  local waited = try('ZREM', LIMIT .. name .. ':waiters', process .. '/' .. hold .. '/' .. slots)
  if had > 0 or waited == 1 then grant(name) end
  tidy(name)
end

local function give_up(process, hold, entry)
  try('HDEL', SLOTS .. process, hold)
  for name in string.gmatch(entry.names, '%S+') do clear(name, process, hold, entry.slots) end
end

-- All that a process has, which is over.
local function give_up_all(process)
  local holds = try('HKEYS', SLOTS .. process)
  for i = 1, #holds do
    local entry = entry_of(process, holds[i])
    if entry then give_up(process, holds[i], entry) end
  end
  try('DEL', SLOTS .. process)
end

-- Takes what no longer counts out of a row of holders or waiters.
local function strike_processes(name, key, members)
  local known = {}
  for i = 1, #members do
    local process, hold = process_of(members[i])
    if process and known[process .. '/' .. hold] == nil then
      local entry = entry_of(process, hold)
      known[process .. '/' .. hold] = still_counts(process, entry)
      if entry and not still_counts(process, entry) then give_up(process, hold, entry) end
    end
    if process and not known[process .. '/' .. hold] then try('ZREM', key, members[i]) end
  end
end

-- Slots of those that hold them no longer, and reservations that were not used in time, go to the next in the row.
-- Answers how many were looked at.
local function mend(name)
  local holders, waiters = LIMIT .. name .. ':holders', LIMIT .. name .. ':waiters'
  local flat, members = try('ZRANGE', holders, 0, -1, 'WITHSCORES'), {}
  for i = 1, #flat, 2 do
    if process_of(flat[i]) then
      members[#members + 1] = flat[i]
    else
      local id, token = string.match(flat[i], '^(.*):([^:]*)$')
      local run = id and try('HMGET', JOB .. id, 'state_type', 'token')
      local is_stale = not run or (token == 'reserved' and tonumber(flat[i + 1]) < NOW - RESERVED)
        or (token ~= 'reserved' and not (HELD_TYPES[run[1]] and run[2] == token))
      if is_stale then call('ZREM', holders, flat[i]) end
    end
  end
  strike_processes(name, holders, members)
  strike_processes(name, waiters, try('ZRANGE', waiters, 0, AT_ONCE - 1))
  local looked_at = grant(name)
  tidy(name)
  return looked_at
end
