"""The knobs of each method of `solve_recurrence`. A knob of None is found from the problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqpar.errors import NotEligibleError, OptionError


@dataclass(frozen=True, kw_only=True)
class ShootingConfig:
    """Chunks of time walked side by side from guessed states, until each starts where the one before it ends."""

    chunk: int | None = None
    """Steps of a chunk."""
    burn_in: int | None = None
    """Steps walked before a chunk, from a state of no meaning, to guess the state that it starts in; at most `chunk`."""
    sweeps: int | None = None
    """Walk exactly so many times and read nothing back in between, whatever is found: nothing is raised, `converged` says. For
    `method="shooting"` alone."""


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


def check_config(method: str, config: Any) -> None:
    """Refuse a config of another method, and knobs that are no such numbers."""
    name = "solve_recurrence"
    if config is None:
        return
    kinds = {"shooting": ShootingConfig, "shooting_newton": ShootingConfig, "auto": ShootingConfig}
    kind = None if method == "sequential" else kinds.get(method, NewtonConfig)
    if kind is None or not isinstance(config, kind):
        takes = "no config" if kind is None else f"a {kind.__name__}"
        raise NotEligibleError(
            f"{name}: config={config!r} is not of method={method!r}, which takes {takes}. Leave it out, or name its method."
        )
    if isinstance(config, ShootingConfig):
        for knob, least in (("chunk", 1), ("burn_in", 0), ("sweeps", 1)):
            value = getattr(config, knob)
            if value is not None and not (type(value) is int and value >= least):
                raise OptionError(
                    f"{name}: {knob}={value!r} of ShootingConfig is not a whole number of {least} or more. Give one, or None."
                )
        if config.sweeps is not None and method != "shooting":
            raise NotEligibleError(
                f'{name}: sweeps={config.sweeps} with method={method!r}. A fixed number of sweeps is for method="shooting" alone.'
            )
