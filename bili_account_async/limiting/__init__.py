"""Budgets and queues: who may send, and when. Nothing here knows of HTTP.

`types` is what programs see, `protocols` the shape of a limiter. Pure, and told the time: `budget`
and `throttle` (one scope), `calls` and `lanes` (what waits, in order), `patience` and `max_wait`
(who may not wait on) and `queue` (who goes). `timed` puts futures and a timer around a queue,
`local` is the limiter of one process, `fronted` asks one of the program's own in our order.
`shared` is the budget of several processes: `asking` is a queue that asks, `booking` the limiter
that answers it out of a `file`.
"""
