"""The oracle ships with the conformance suite; tests find it under this short name too."""

from seqpar.testing.oracle import *  # noqa: F403
