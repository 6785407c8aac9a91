-- wrk -s wrk.lua URL -- METHOD BODY: one request over and over; the counts as one line of JSON at the end.
function init(args)
   wrk.method = args[1]
   if args[2] and args[2] ~= "" then
      wrk.body = args[2]
      wrk.headers["Content-Type"] = "application/json"
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "errors": %d, "seconds": %.6f}\n',
      summary.requests,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      summary.duration / 1e6
   ))
end
