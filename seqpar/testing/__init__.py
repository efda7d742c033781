"""For people who write backends: a conformance suite to subclass, and the definition in float64 to compare with.

    from seqpar.testing import BackendConformance

    class TestMine(BackendConformance):
        backend = my_package.backend()

`pytest` then runs every kernel of the backend against the definition. Needs the extra `test`.
"""

from seqpar.testing.conformance import BackendConformance

__all__ = ["BackendConformance"]
