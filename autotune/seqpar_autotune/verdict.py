"""What became of a candidate: the one list of words that worker, search, store and tables share."""

import enum


class Verdict(enum.StrEnum):
    """How a candidate ended. Everything but `OK` is data as well: it is stored, and not tried again."""

    OK = "ok"
    INVALID = "invalid"
    """Not eligible: refused before anything ran."""
    COMPILE = "compile"
    TIMEOUT = "timeout"
    CRASH = "crash"
    MEMORY = "memory"
    WRONG = "wrong"
    """Its answer was not within the bound of the float64 reference."""
    UNSTABLE = "unstable"
    """Times that are no times, or answers that differ from run to run where they must not."""
