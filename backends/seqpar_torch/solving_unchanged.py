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
ROUGHLY = 256.0
"""Units of rounding, relative to max(1, |h|), that a step alone may differ by from the same step among others: those by which the
check of the step lets rows differ."""
ROUGHLY_HALF = 32.0
"""The same for half precision, where sums are rounded once."""
DEVICE = 1e-3
"""The difference in single precision on a device, where products may be rounded to ten bits, or not, by their shape."""


def check_unchanged(recurrence: Recurrence, states: Tensor, converged: Tensor, tol: float | None) -> None:
    """Raise if most of a few steps, spread over all of time, give something else than the forward pass found.

    Most, because a step that rounds or takes a sign may land on the other side of a tie now and then.
    """
    if not states.shape[-1]:
        return  # states of no numbers, of which there is no largest
    last, count = recurrence.steps - 1, min(STEPS, recurrence.steps)
    # Integers: in single precision the last of 2^25 steps would be one too many.
    times = torch.tensor([i * last // max(1, count - 1) for i in range(count)], device=states.device)
    start = times == 0
    if recurrence.resets is not None:
        start = start | recurrence.resets[:, times]
    h = torch.where(start[..., None], recurrence.h0[:, None], states[:, (times - 1).clamp(min=0)])
    x = [leaf[:, times].flatten(0, 1) for leaf in recurrence.inputs]
    found = recurrence.stepper().evaluate(h.flatten(0, 1), x).unflatten(0, h.shape[:2])
    wanted = states[:, times]
    known = (found.isfinite() & wanted.isfinite()).all(-1) & converged[:, None]
    apart = (found - wanted).abs().amax(-1) / wanted.abs().amax(-1).clamp(min=1.0)
    most = max(_rounding(states), 0.0 if tol is None else 4.0 * tol)
    if int((known & (apart > most)).sum()) > 0.5 * int(known.sum()):
        raise OptionError(
            f"{NAME}: step gives other states in the backward pass than in the forward pass, so its gradients would be those of "
            "another recurrence. Leave what it closes over as it is until backward() is done: module.train() and "
            "module.eval() in PyTorch, and whatever names it looks up."
        )


def _rounding(states: Tensor) -> float:
    """What rounding explains."""
    eps = torch.finfo(states.dtype).eps
    if states.dtype in (torch.float16, torch.bfloat16):
        return ROUGHLY_HALF * eps
    single = states.dtype in (torch.float32, torch.complex64)
    return DEVICE if single and states.device.type != "cpu" else ROUGHLY * eps
