"""The linear recurrence as a plain PyTorch loop that autograd differentiates by itself, and inputs to compare on."""

import torch


def loop(a, b, h0=None, *, axis=-2, reverse=False, resets=None, gate="value", convex=False):
    """The definition, in operations that PyTorch differentiates by itself; float64 or complex128."""
    axis = axis % b.dim()
    a, b = torch.broadcast_tensors(a, b)
    c = {"value": lambda x: x, "log": torch.exp, "logit": torch.sigmoid}[gate](a)
    u = (1 - c) * b if convex else b
    k = torch.zeros_like(u.select(axis, 0)) if h0 is None else h0.expand_as(u.select(axis, 0))
    states = [None] * b.shape[axis]
    for t in reversed(range(len(states))) if reverse else range(len(states)):
        if resets is not None:
            k = torch.where(resets.select(axis, t)[..., None], torch.zeros_like(k), k)
        k = states[t] = c.select(axis, t) * k + u.select(axis, t)
    return torch.stack(states, axis), k


def make(seed=0, shape=(2, 5, 3), dtype=torch.float64, gate="value", a_shape=None, h0=True):
    """a with coefficients around 0.7, b and h0 normal; leaves that require gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape):
        return torch.randn(shape, dtype=dtype, generator=generator)

    a = normal(shape if a_shape is None else a_shape) * 0.3
    a = a + {"value": 0.7, "log": -0.4, "logit": 0.8}[gate]
    given = [a, normal(shape), normal((shape[0], *shape[2:]))][: 3 if h0 else 2]
    return [x.requires_grad_() for x in given]


RESETS = torch.tensor([[False, False, True, False, True], [True, False, False, False, False]])
