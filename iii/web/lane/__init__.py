"""The lane: plain HTTP/1 requests, answered by a protocol of our own instead of by Hypercorn.

A connection stays in the lane while its heads leave no doubt (head.py). The first one that does, or that asks
for more than a plain answer (HTTP/2, an upgrade, Expect), takes its connection to Hypercorn for good, with
every byte read so far: so the lane accepts nothing that Hypercorn refuses.
"""
