"""Steps of nonlinear recurrences in PyTorch, the loop over them that autograd differentiates by itself, and their comparison."""

import torch

from seqpar import solve_recurrence
from seqpar.solving.configs import ShootingConfig

SHORT = ShootingConfig(chunk=16)


def elman(params, h, x):
    """A tanh network with a residual connection, which forgets."""
    return 0.4 * h + 0.6 * torch.tanh(x @ params["w"] + h @ params["u"] + params["b"])


def normal(*shape, seed=0, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, dtype=dtype, generator=generator)


def network(n=5, m=3, dtype=torch.float64, seed=0):
    """Parameters of `elman` that require gradients."""
    scale = 0.6 / n**0.5
    params = {
        "w": normal(m, n, seed=seed, dtype=dtype),
        "u": normal(n, n, seed=seed + 1, dtype=dtype, scale=scale),
        "b": normal(n, seed=seed + 2, dtype=dtype),
    }
    return {name: p.requires_grad_() for name, p in params.items()}


def inputs(batch=2, steps=90, m=3, n=5, dtype=torch.float64, seed=10):
    """x and h0 that require gradients."""
    x, h0 = normal(batch, steps, m, seed=seed, dtype=dtype), normal(batch, n, seed=seed + 1, dtype=dtype)
    return x.requires_grad_(), h0.requires_grad_()


def at(x, t):
    """One step of a tree of inputs (batch, steps, ...)."""
    if isinstance(x, dict):
        return {name: at(leaf, t) for name, leaf in x.items()}
    return None if x is None else x[:, t]


def loop(step, x, h0, params=None, *, steps=None, reverse=False, resets=None):
    """(batch, steps, n), one step after the other."""
    first = next(iter(x.values())) if isinstance(x, dict) else x
    steps = first.shape[1] if steps is None else steps
    h, states = h0, [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        if resets is not None:
            h = torch.where(resets[:, t, None], h0, h)
        h = states[t] = step(params, h, at(x, t))
    return torch.stack(states, 1)


def solved(step, x, h0, params=None, *, method="shooting", **options):
    """The states by chunks of 16 steps, or as the options say."""
    if method == "shooting":
        options.setdefault("config", SHORT)
    return solve_recurrence(step, x, h0, params, method=method, **options).states


def gradients(states, of, seed=20, weight=None):
    """Gradients of a loss that weighs every state differently."""
    weight = normal(*states.shape, seed=seed, dtype=states.dtype) if weight is None else weight
    return torch.autograd.grad((states * weight).sum(), of, allow_unused=True, retain_graph=True)


def close(found, wanted, tolerance=1e-8):
    """Each gradient against the loop's, relative to its largest number."""
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(
                ours, theirs, rtol=0.0, atol=tolerance * float(theirs.detach().abs().max())
            )
