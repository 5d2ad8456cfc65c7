"""Budgets and queues: who may send, and when. Nothing here knows of HTTP.

`types` is what programs see, `protocols` the shape of a limiter. Pure, and told the time: `budget`
and `throttle` (one scope), `calls` and `lanes` (what waits, in order), `patience` and `max_wait`
(who may not wait on) and `queue` (who goes). `local` puts futures and timers around the queues of
one process; `fronted` asks a limiter of the program's own in their order.
"""
