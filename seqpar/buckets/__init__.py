"""From lengths to batches: what `seqpar.plan_buckets` and everything that uses a plan are made of.

Planning, in this order: `lengths` (a histogram from whatever was given), `batch_sizes` (how many sequences of a length fit),
`prices` (what a sample costs in a bucket), `seqpar.algorithms.bucketing` (the best boundaries), `plan` (the result).
"""
