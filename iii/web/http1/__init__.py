"""HTTP/1 as this engine reads it, whoever goes on with it: the lane has this grammar in the native core, and
before Hypercorn stands a gate. A request is read by both in one way, or by neither."""
