-- greet: tells which layout the data has, and marks an empty Redis as Baton's.
-- KEYS: baton:meta.
-- ARGV: this Baton's layout, its version.
-- Answer: the layout that the data has.
-- Calls: HGET HSET TIME

local layout = call('HGET', KEYS[1], 'layout')
if layout then return layout end
call('HSET', KEYS[1], 'layout', ARGV[1], 'created_by', 'baton ' .. ARGV[2], 'created_at', NOW_ISO)
return ARGV[1]
