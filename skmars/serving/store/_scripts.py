"""What a Redis server does at once, in Lua.

Each script gets, as its first key and argument, the key and the text that tell this store from all
others, and answers "replaced" if they don't agree. Scripts write nothing before all is checked.
"""

_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'replaced'} end
"""

# Seconds, by the clock of the server or the one that was given.
_NOW = """
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end
"""

# KEYS: format, position, user kind, item kind, items, numbers, stream, touched, then histories.
# ARGV: format, the users and items of the events (codes, 4 bytes each), the events (dtype EVENT),
# the length of the prefix of a history's key, the number of items, the most items, then the items,
# then what the stream keeps behind each event, if they are streamed.
APPEND = (
    _SAME
    + """
local users, items, events = ARGV[2], ARGV[3], ARGV[4]
local prefix, n_items, max_items = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local n = #events / 32
local tails = #ARGV > 7 + n_items

local kinds = redis.call('MGET', KEYS[3], KEYS[4])
local user_kind, item_kind = string.sub(KEYS[9], prefix + 1, prefix + 1), string.sub(ARGV[8], 1, 1)
if (kinds[1] and kinds[1] ~= user_kind) or (kinds[2] and kinds[2] ~= item_kind) then
  return {'kind', kinds[1], kinds[2]}
end
local next_number = redis.call('LLEN', KEYS[6])
if next_number + n_items > max_items then return {'full'} end

local past, asked, known = {}, {}, {}
local function is_new(user, id)
  local history = past[user]
  if history == nil then
    history = redis.call('GET', KEYS[9 + user]) or ''
    past[user], asked[user] = history, 0
  end
  -- Searching the bytes beats a table of all ids, unless there are many to look for.
  asked[user] = asked[user] + 1
  if asked[user] == 16 then
    known[user] = {}
    for at = 1, #history, 32 do known[user][string.sub(history, at, at + 7)] = true end
  end
  if known[user] then return not known[user][id] end
  local at = string.find(history, id, 1, true)
  while at and at % 32 ~= 1 do at = string.find(history, id, at + 1, true) end
  return at == nil
end

local number = {}
local function number_of(item)
  if number[item] == nil then
    local key = ARGV[8 + item]
    local found = redis.call('HGET', KEYS[5], key)
    if not found then
      found = string.format('%.0f', next_number)
      redis.call('HSET', KEYS[5], key, found)
      redis.call('RPUSH', KEYS[6], key)
      next_number = next_number + 1
    end
    number[item] = struct.pack('<I4', tonumber(found))
  end
  return number[item]
end

local position = tonumber(redis.call('GET', KEYS[2]) or '0')
local first, added, last = position, {}, {}
for e = 0, n - 1 do
  local user = struct.unpack('<I4', users, 4 * e + 1)
  local at = 32 * e
  local id = string.sub(events, at + 1, at + 8)
  if is_new(user, id) then
    position = position + 1
    local event = id .. struct.pack('<I8', position) .. string.sub(events, at + 17, at + 24)
      .. number_of(struct.unpack('<I4', items, 4 * e + 1)) .. string.sub(events, at + 29, at + 32)
    if added[user] == nil then added[user] = {} end
    table.insert(added[user], event)
    last[user] = position
    if tails then
      local key = string.format('%.0f-0', position)
      redis.call('XADD', KEYS[7], key, 'e', event .. ARGV[8 + n_items + e])
    end
  end
end

for user, parts in pairs(added) do
  redis.call('APPEND', KEYS[9 + user], table.concat(parts))
  local member = string.sub(KEYS[9 + user], prefix + 1)
  redis.call('ZADD', KEYS[8], string.format('%.0f', last[user]), member)
end
if position > first then
  redis.call('SET', KEYS[2], string.format('%.0f', position))
  if first == 0 then redis.call('MSET', KEYS[3], user_kind, KEYS[4], item_kind) end
end
return {'kept', string.format('%.0f', position), string.format('%.0f', position - first)}
"""
)

# KEYS: format, trimmed, position, stream. ARGV: format, before.
TRIM = (
    _SAME
    + """
local before = math.min(tonumber(ARGV[2]), tonumber(redis.call('GET', KEYS[3]) or '0') + 1)
if before > tonumber(redis.call('GET', KEYS[2]) or '0') then
  redis.call('SET', KEYS[2], string.format('%.0f', before))
  redis.call('XTRIM', KEYS[4], 'MINID', string.format('%.0f', before))
end
return {'trimmed'}
"""
)

# KEYS: format, pointer, lease. ARGV: format, value, token or nothing.
PUBLISH = (
    _SAME
    + """
if ARGV[3] ~= '' then
  local lease = redis.call('HMGET', KEYS[3], 'token', 'holder')
  if lease[1] ~= ARGV[3] or lease[2] == '' then return {'stale', lease[2] or ''} end
end
redis.call('SET', KEYS[2], ARGV[2])
return {'published'}
"""
)

# KEYS: format, lease. ARGV: format, holder, seconds, the time or nothing.
ACQUIRE = (
    _SAME
    + _NOW
    + """
local now, seconds = clock(ARGV[4]), tonumber(ARGV[3])
local lease = redis.call('HMGET', KEYS[2], 'token', 'holder', 'until', 'seconds')
local token, holder = tonumber(lease[1] or '0'), lease[2] or ''
local ends, lasts = tonumber(lease[3] or '0'), tonumber(lease[4] or '0')
if holder ~= '' and now < ends - lasts then  -- the clock was set back
  ends = now + lasts
  redis.call('HSET', KEYS[2], 'until', string.format('%.17g', ends))
end
if holder ~= '' and holder ~= ARGV[2] and now < ends then
  return {'held', holder, string.format('%.17g', ends), string.format('%.17g', now)}
end
token, ends = string.format('%.0f', token + 1), string.format('%.17g', now + seconds)
redis.call('HSET', KEYS[2], 'token', token, 'holder', ARGV[2], 'until', ends, 'seconds', ARGV[3])
return {'taken', token, ends}
"""
)

# KEYS: format, lease. ARGV: format, token.
RELEASE = (
    _SAME
    + """
if redis.call('HGET', KEYS[2], 'token') == ARGV[2] then
  redis.call('HSET', KEYS[2], 'holder', '')
end
return {'released'}
"""
)
