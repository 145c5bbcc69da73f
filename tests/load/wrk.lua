-- Sends the requests of a file in turn, replaces the placeholder in bodies by the number of the
-- request, and prints the figures as JSON. If reads and writes are measured apart, each connection
-- has a thread, so that a response belongs to the last request of its thread.

local PLACEHOLDER = "@number@"
local CLOCK_MONOTONIC = 1

local ffi = require("ffi")
ffi.cdef("struct time { long s; long ns; }; int clock_gettime(int, struct time *);")

-- Of the main state: all threads.
local threads = {}

-- Of a thread.
local requests = {}
local sent = 0
local sent_by_others = 0
local at = ffi.new("struct time")
local is_write, started
-- Global, for `done`: the times of responses in microseconds.
reads, writes = {}, {}

local function now()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, at)
  return tonumber(at.s) * 1e6 + tonumber(at.ns) / 1e3
end

function setup(thread)
  table.insert(threads, thread)
  thread:set("number", #threads)
end

function init(args)
  local load = dofile(args[1])
  requests = load.requests
  if load.writer and number == 1 then
    requests = load.writer
  end
  if load.is_apart then
    -- Threads begin at different requests.
    sent = math.floor((number - 1) * #requests / load.connections)
    sent_by_others = (number - 1) * 1e6
    response = function ()
      local times = is_write and writes or reads
      times[#times + 1] = now() - started
    end
  end
end

function request()
  sent = sent + 1
  local one = requests[(sent - 1) % #requests + 1]
  is_write, started = one.method ~= "GET", now()
  if one.body and one.body:find(PLACEHOLDER, 1, true) then
    local body = one.body:gsub(PLACEHOLDER, string.format("%d", sent_by_others + sent))
    return wrk.format(one.method, one.path, one.headers, body)
  end
  -- Format it only once, to save CPU time of wrk.
  one.ready = one.ready or wrk.format(one.method, one.path, one.headers, one.body)
  return one.ready
end

-- Return the times of all threads, in order.
local function collect(name)
  local times = {}
  for _, thread in ipairs(threads) do
    for _, time in ipairs(thread:get(name)) do
      times[#times + 1] = time
    end
  end
  table.sort(times)
  return times
end

local function percentile(times, percent)
  local time = times[math.max(1, math.ceil(#times * percent / 100))]
  return time and string.format("%.3f", time / 1000) or "null"
end

function done(summary, latency)
  local errors = summary.errors
  local reads, writes = collect("reads"), collect("writes")
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d, '
      .. '"writes_per_second": %s, "read_p50_ms": %s, "read_p99_ms": %s, '
      .. '"write_p50_ms": %s, "write_p99_ms": %s}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    #writes > 0 and string.format("%.3f", #writes / summary.duration * 1e6) or "null",
    percentile(reads, 50), percentile(reads, 99),
    percentile(writes, 50), percentile(writes, 99)
  ))
end
