-- drop: removes entries of the quarantine.
-- KEYS: baton:quarantine.
-- ARGV: their ids.
-- Answer: how many were there.
-- Repeatable: what is gone is gone.
-- Calls: TIME TYPE XDEL

local wrong = misfit(KEYS[1], 'stream')
if wrong then return redis.error_reply(wrong) end
return call('XDEL', KEYS[1], unpack(ARGV))
