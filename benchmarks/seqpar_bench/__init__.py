"""Benchmarks of seqpar: cases, peers, measurement, report."""
