"""Is the step still the one of the forward pass, when gradients compute it again?

Tensors that were written into are found by PyTorch's version counters. A module that was put into training mode meanwhile, or a
name that the step looks up and that means something else now, is not: so a few steps are compared with the states.
"""

import torch

from seqpar.errors import OptionError
from seqpar.solving.recurrence import Recurrence

Tensor = torch.Tensor
NAME = "solve_recurrence"
STEPS = 32
ROUGHLY = 1e-3


def check_unchanged(recurrence: Recurrence, states: Tensor, converged: Tensor, tol: float | None) -> None:
    """Raise if most of a few steps, spread over all of time, give something else than the forward pass found.

    Most, because a step that rounds or takes a sign may land on the other side of a tie now and then.
    """
    times = torch.linspace(0, recurrence.steps - 1, min(STEPS, recurrence.steps), device=states.device).long()
    start = times == 0
    if recurrence.resets is not None:
        start = start | recurrence.resets[:, times]
    h = torch.where(start[..., None], recurrence.h0[:, None], states[:, (times - 1).clamp(min=0)])
    x = [leaf[:, times].flatten(0, 1) for leaf in recurrence.inputs]
    found = recurrence.stepper().evaluate(h.flatten(0, 1), x).unflatten(0, h.shape[:2])
    wanted = states[:, times]
    known = (found.isfinite() & wanted.isfinite()).all(-1) & converged[:, None]
    apart = (found - wanted).abs().amax(-1) / wanted.abs().amax(-1).clamp(min=1.0)
    most = max(ROUGHLY, 32.0 * torch.finfo(states.dtype).eps, 0.0 if tol is None else 4.0 * tol)
    if int((known & (apart > most)).sum()) > 0.5 * int(known.sum()):
        raise OptionError(
            f"{NAME}: step gives other states in the backward pass than in the forward pass, so its gradients would be those of "
            "another recurrence. Leave what it closes over as it is until backward() is done: module.train() and "
            "module.eval() in PyTorch, and whatever names it looks up."
        )
