"""Tall matrices: their QR factorisation and least squares, as operations that backends may have kernels for.

Public faces are `seqpar.qr`, `seqpar.lstsq` and `seqpar.lstsq_accumulator`. What they stand on is here:

    factorisation    `operations`, its derivatives `rules`; kernels `framework_kernels` with `certified_cholesky`, their knobs
                     `configs`; what is told of them `ran` and `condition`; rows of several members `group`
    implicit Q       `implicit`; operations `implicit_operations`, derivatives `implicit_rules`, kernels `implicit_kernels`;
                     Householder vectors in memory `packing`, as array code `packed_householder`
    least squares    arguments `lstsq_form`; from R to x `lstsq_operation`, derivatives `rules_lstsq`, pulled back for
                     frameworks without reverse mode `lstsq_vjp`
    accumulator      state `accumulation`, arguments `accumulator_arguments`; R factors of a stream `factors`, rows into them
                     `stream`, from iterables and files `sources` with `progress`; on disk `accumulator_file`; from R to
                     penalties `ridge_path` and `cross_validation`

Checks of arguments that all of them make are in `canonical`, the linear algebra of a framework in `linear_algebra`.
"""
