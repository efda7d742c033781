"""The tuner: search, measurement, verification, and the writing side of the store. Holds nothing yet."""
