-- probe: tries what a role may do, so that one that is too small is found out before it strikes a script half way.
-- KEYS: none: what is tried may be forbidden, and has to be told by name.
-- ARGV: a key that never is, how many tries, then per try: how many words, the words of a command.
-- Answer: flat, per try that was refused: its number (0: deleting that key), what Redis said.
-- A try changes nothing: it asks for what is not there, cannot be done, or makes only that key, which is deleted again.
-- Calls: DEL TIME

local refused, at = {}, 3

-- What could not be deleted again is not made.
local deleted = try('DEL', ARGV[1])
if type(deleted) == 'table' then return { 0, deleted.err } end
for i = 1, tonumber(ARGV[2]) do
  local words = tonumber(ARGV[at])
  local answer = try(unpack(ARGV, at + 1, at + words))
  if type(answer) == 'table' and answer.err then refused[#refused + 1], refused[#refused + 2] = i, answer.err end
  call('DEL', ARGV[1])
  at = at + 1 + words
end
return refused
