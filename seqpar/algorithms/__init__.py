"""Algorithms against the array API standard."""
