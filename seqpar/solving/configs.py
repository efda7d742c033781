"""The knobs of each method of `solve_recurrence`. A knob of None is found from the problem."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ShootingConfig:
    """Chunks of time walked side by side from guessed states, until each starts where the one before it ends."""

    chunk: int | None = None
    """Steps of a chunk."""
    burn_in: int | None = None
    """Steps walked before a chunk, from a state of no meaning, to guess the state that it starts in; at most `chunk`."""
    sweeps: int | None = None
    """Walk exactly so many times and ask nothing in between, for the capture of graphs."""


@dataclass(frozen=True, kw_only=True)
class NewtonConfig:
    """Iterations over all of time at once: h <- h + d, where d solves the recurrence linearised around h."""

    damping: float | None = None
    """k in (1 - k) J while residuals are large; None tries 0 first and damps when they grow."""
    scale: float | None = None
    """sigma squared of the damping by a Kalman filter (quasi-ELK); None for none."""
    probes: int | None = None
    """Random tangents for the diagonal of a Jacobian that is not one; None takes the exact diagonal."""
    window: int | None = None
    """Steps that iterate at once; None for all that are left."""
