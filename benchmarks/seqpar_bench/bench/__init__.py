"""`seqpar bench`: backends and methods of seqpar against each other, against each framework's own way, and against peers.

what is measured   a `problem` with its numbers, its answer in float64 and its contestants; `operations` has those of each
                   operation, `problems` chooses among them; `frames` are the frameworks, `limits` what physics allows
measuring          a `session` is many problems, a `contest` one; `work` is what happens in the process that measures, with
                   the tuner's worker, sampler and rounds; `watching` tells who waits, `hardware` says where it was
the result         `row`: a `Row` for each contestant, a `Run`, and its JSON, of which `stored` believes nothing
showing            `report` has tables, pictures and the page; `changes` compares two runs
typed              as `command`
"""
