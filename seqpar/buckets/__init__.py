"""From lengths to batches: what `seqpar.plan_buckets` and everything that uses a plan are made of.

Public faces are `seqpar.plan_buckets`, `seqpar.BucketSampler` and `seqpar.BucketStream`. `seqpar.measure_cost`, `fit_memory`,
`pad_batch`, `pack_batch`, `normalised_loss`, and `wrap`, `collate` and `bucket_or_pack` of a plan are loaded from here.

    planning         in this order: `planning` conducts; `lengths` (a histogram from whatever was given), `batch_sizes` (how many
                     sequences of a length fit), `overflow` (what is too long), `prices` (what a sample costs in a bucket), `cuts`
                     (the best boundaries) by `kernels` or, in whole batches, by `whole_batches`; `rivals` (other choices). The
                     algorithms are `seqpar.algorithms.bucketing` and `whole_batches`
    the result       `plan`; printed, kept and drawn by `plan_table`, `plan_json`, `plan_plot`
    pairs            of lengths: `pairs` conducts; `pair_lengths`, `pair_prices`, `pair_choice` (`pair_search` or
                     `pair_lines`), `pair_rivals`; result `pair_plan`
    costs            of a user's step (`user_step`): `cost_measuring` makes a `cost_model`; times at hand are a `cost_table`;
                     memory: `memory_fitting`, `memory_model`, `memory_verification`, `host_memory`; both fit by `relative_fit`
                     and are printed by `cost_text` and `cost_progress`
    sampler          a `batch` from an `order` that is a `permutation` of groups, which `remainders` makes whole;
                     `sampler_state`, `metrics`, and for loaders `epoch_batches`
    arrays           sequences are `ragged`; `padding`, `packing` (rows by `best_fit`; `pack_choice` says whether), `samples` of a
                     data set in `columns` by `collate`; `loss`
    streams          one `stream_pass` reads ahead: `stream_plans` of what came, `stream_queues` of what waits, a `stream_batch`;
                     `stream_options`, `stream_samples`, `stream_state`, `stream_metrics`

Checks of options that all of them make are in `options`.
"""
