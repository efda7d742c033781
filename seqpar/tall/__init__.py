"""Tall matrices: their QR factorisation and least squares, as operations that backends may have kernels for.

Public functions are `seqpar.qr` and `seqpar.lstsq`; what they have in common is here.
"""
