"""The problems of every operation, with their answers in float64 and everybody who solves them.

    linear_recurrence   `linear`, `linear_peers`            solve_recurrence   `solving`, `solving_exact`, `solving_peers`
    matrix_recurrence   `matrices`; both are a `recurrence` recurrence         `cells`, `cells_exact`, `cells_peers`; both are
    associative_scan    `scans`, `scan_peers`, `monoids`                       `walked`
    qr, lstsq           `tall`, `tall_exact`, `tall_peers`  plan_buckets       `planning`, `planning_peers`

`operands` are random numbers that are always the same, `exact` is float64 by the definition, for any step `stepwise`;
`torch_scan` is PyTorch's scan, which three operations have for a peer; `gpu_peers` need a GPU.
"""
