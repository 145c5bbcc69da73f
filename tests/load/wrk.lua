-- Sends the requests of a file in turn, replaces the placeholder in bodies by the number of the
-- request, and prints the figures as JSON.

local PLACEHOLDER = "@number@"

local requests = {}
local sent = 0

function init(args)
  for i, one in ipairs(dofile(args[1])) do
    requests[i] = one
    if not one.body or not one.body:find(PLACEHOLDER, 1, true) then
      -- Format it only once, to save CPU time of wrk.
      one.ready = wrk.format(one.method, one.path, one.headers, one.body)
    end
  end
end

function request()
  sent = sent + 1
  local one = requests[(sent - 1) % #requests + 1]
  if one.ready then
    return one.ready
  end
  return wrk.format(one.method, one.path, one.headers, (one.body:gsub(PLACEHOLDER, sent)))
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
