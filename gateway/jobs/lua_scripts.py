"""The atomic steps of a job's life as Lua scripts: each is one command to Redis.

Records are hashes. ``delivery`` numbers the messages that were sent for a job: a worker acts only for the
latest one, so that one worker alone may change a job that was taken for lost and delivered again. ``open`` is
the sorted set of unfinished jobs by the time of their last heartbeat, in seconds.
"""

# KEYS: record, the owner's jobs, open. ARGV: prefix of records, id, now, limit per owner, limit of all,
# seconds until the record expires unless accepted, then the record's fields and values.
CREATE = """
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if redis.call('EXISTS', ARGV[1] .. id) == 0 then redis.call('ZREM', KEYS[2], id) end
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return 'quota' end
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[5]) then return 'full' end
redis.call('HSET', KEYS[1], unpack(ARGV, 7))
redis.call('EXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
return 'ok'
"""

# KEYS: record. A job that a fast worker has finished already keeps the expiry of its result.
ACCEPT = """
if redis.call('HGET', KEYS[1], 'status') == 'queued' then redis.call('PERSIST', KEYS[1]) end
return redis.call('EXISTS', KEYS[1])
"""

# KEYS: record, open. ARGV: id, delivery, now, lease in seconds, worker. A newer delivery takes a job over: it
# was sent because there was no heartbeat.
START = """
local record = redis.call('HMGET', KEYS[1], 'status', 'delivery', 'worker')
if not record[1] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 'gone'
end
if tonumber(ARGV[2]) < tonumber(record[2]) then return 'stale' end
if record[1] == 'running' and ARGV[2] == record[2] and record[3] ~= ARGV[5] then
  local seen = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if seen and tonumber(ARGV[3]) - tonumber(seen) < tonumber(ARGV[4]) then return 'elsewhere' end
end
if record[1] == 'cancelling' then
  redis.call('HSET', KEYS[1], 'delivery', ARGV[2], 'worker', ARGV[5])
  return 'cancelling'
end
if record[1] ~= 'queued' and record[1] ~= 'running' then return 'finished' end
redis.call('HSET', KEYS[1], 'status', 'running', 'delivery', ARGV[2], 'worker', ARGV[5])
redis.call('HSETNX', KEYS[1], 'started', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('PERSIST', KEYS[1])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 'run'
"""

# KEYS: record, open. ARGV: id, delivery, now.
HEARTBEAT = """
local record = redis.call('HMGET', KEYS[1], 'status', 'delivery')
if not record[1] or record[2] ~= ARGV[2] then return 'lost' end
redis.call('ZADD', KEYS[2], 'XX', ARGV[3], ARGV[1])
return record[1]
"""

# KEYS: record, results. ARGV: delivery, position, result. A deleted job gets no results.
ADD_RESULT = """
if redis.call('HGET', KEYS[1], 'delivery') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
"""

# KEYS: record, open, results. ARGV: id, delivery, status, now, seconds to keep it, error.
# The request is deleted, because nothing needs it any more.
FINISH = """
local record = redis.call('HMGET', KEYS[1], 'status', 'delivery')
if not record[1] or record[2] ~= ARGV[2] then return 0 end
if record[1] ~= 'running' and record[1] ~= 'cancelling' then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[3], 'finished', ARGV[4], 'error', ARGV[6])
redis.call('HDEL', KEYS[1], 'request')
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[3], ARGV[5])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
"""

# KEYS: record, open. ARGV: id, delivery, now. An interruption that the job did not cause is not an attempt.
RELEASE = """
local record = redis.call('HMGET', KEYS[1], 'status', 'delivery')
if record[1] ~= 'running' or record[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'status', 'queued', 'worker', '')
redis.call('HINCRBY', KEYS[1], 'attempts', -1)
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
"""

# KEYS: record, open, results. ARGV: id, owner, now, seconds to keep it.
CANCEL = """
local record = redis.call('HMGET', KEYS[1], 'status', 'owner')
if record[2] ~= ARGV[2] then return '' end
if record[1] == 'running' then
  redis.call('HSET', KEYS[1], 'status', 'cancelling')
elseif record[1] == 'queued' then
  redis.call('HSET', KEYS[1], 'status', 'cancelled', 'finished', ARGV[3])
  redis.call('HDEL', KEYS[1], 'request')
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('EXPIRE', KEYS[3], ARGV[4])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return redis.call('HGET', KEYS[1], 'status')
"""

# KEYS: record, results, the owner's jobs, open. ARGV: id, owner. A worker that runs it notices soon.
DELETE = """
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
return 1
"""

# KEYS: open. ARGV: id, the latest heartbeat of a lost job, now. One of several workers claims the job.
CLAIM = """
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not seen or tonumber(seen) > tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
"""
