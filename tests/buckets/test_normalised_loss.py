"""`normalised_loss`: one number whose gradient is the global mean's, however the samples are shared out."""

from typing import Any

import numpy as np
import pytest

import seqpar
from ladder import Rung
from seqpar.errors import ArrayTypeError, DtypeError, OptionError, ShapeError

LENGTHS = [5, 1, 8, 3, 2, 7, 4, 6, 1, 3, 8, 2, 5]
SHARES = {1: [13], 8: [2, 0, 3, 1, 2, 3, 1, 1]}
"""Real samples of each rank; all ranks have the same number of rows, so most have fillers, and one nothing else."""
WEIGHTS = np.random.default_rng(1).standard_normal((3, 4))


def data() -> list[tuple[Any, Any]]:
    draw = np.random.default_rng(0)
    return [(draw.standard_normal((n, 3)), draw.standard_normal((n, 4))) for n in LENGTHS]


def shards(world: int) -> list[tuple[Any, Any, Any, Any]]:
    """Inputs, targets, mask and weights of each rank; NaN in the padding of the targets."""
    rows, samples, found = max(SHARES[world]), iter(data()), []
    for share in SHARES[world]:
        own = [next(samples) for _ in range(share)] or [(np.zeros((0, 3)), np.zeros((0, 4)))]
        x = seqpar.pad_batch([x for x, _ in own], boundary=8, batch_size=rows)
        y = seqpar.pad_batch([y for _, y in own], boundary=8, batch_size=rows, value=np.nan)
        weights = x.weights if share else np.zeros(rows)
        found.append((x.padded, y.padded, x.mask, weights))
    return found


def loss(xp: Any, w: Any, shard: Any, per: str, world: int, reduction: Any) -> Any:
    x, y, mask, weights = shard
    h = seqpar.linear_recurrence(0.5, xp.tanh(x @ w), axis=-2)
    steps = ((h - y) ** 2).sum(-1)
    if per == "tokens":
        return seqpar.normalised_loss(
            steps, weights, mask, total=sum(LENGTHS), world_size=world, reduction=reduction
        )
    real = xp.where(mask, steps, xp.zeros_like(steps))
    return seqpar.normalised_loss(
        real.sum(-1), weights, total=len(LENGTHS), world_size=world, reduction=reduction
    )


def numpy_loss(per: str) -> float:
    """The global mean, without padding and without ranks."""
    total = 0.0
    for x, y in data():
        h = np.zeros(4)
        for t in range(len(x)):
            h = 0.5 * h + np.tanh(x[t] @ WEIGHTS)
            total += ((h - y[t]) ** 2).sum()
    return total / (sum(LENGTHS) if per == "tokens" else len(LENGTHS))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("per", ["samples", "tokens"])
def test_gradients_of_one_rank_and_of_eight_agree_in_torch(per: str, reduction: str) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for world in (1, 8):
        w = torch.tensor(WEIGHTS, requires_grad=True)
        losses = [
            loss(torch, w, [torch.asarray(x) for x in shard], per, world, reduction)
            for shard in shards(world)
        ]
        whole = sum(losses) / (world if reduction == "mean" else 1)
        whole.backward()
        found.append(w.grad.numpy())
        assert whole.item() == pytest.approx(numpy_loss(per), rel=1e-13)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("per", ["samples", "tokens"])
def test_gradients_of_one_rank_and_of_eight_agree_in_jax(per: str, reduction: str) -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    found = []
    for world in (1, 8):
        step = jax.jit(
            jax.value_and_grad(lambda w, shard, world=world: loss(jnp, w, shard, per, world, reduction))
        )
        values, grads = zip(
            *[step(WEIGHTS, jax.tree.map(jnp.asarray, shard)) for shard in shards(world)], strict=True
        )
        share = world if reduction == "mean" else 1
        assert sum(values) / share == pytest.approx(numpy_loss(per), rel=1e-13)
        found.append(sum(grads) / share)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)


def test_every_framework_gives_the_same_number(rung: Rung) -> None:
    losses = np.array([[1.0, 2.0, np.nan], [4.0, np.inf, np.nan], [np.nan, 1.0, 1.0]], np.float32)
    mask = np.array([[True, True, False], [True, False, False], [True, True, True]])
    weights = np.array([1.0, 0.5, 0.0])
    found = rung.call(
        lambda x, w, m: seqpar.normalised_loss(x, w, m, total=4, world_size=2),
        *map(rung.array, (losses, weights, mask)),
    )
    assert rung.numpy(found) == 2.5 and rung.dtype(found) == "float32"
    assert (
        rung.numpy(rung.call(lambda x: seqpar.normalised_loss(x, total=2), rung.array(losses[:, 0][:2])))
        == 2.5
    )


def test_what_is_hidden_reaches_no_gradient() -> None:
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    losses, weights, mask = [1.0, np.nan, np.inf, 3.0], [2.0, 1.0, 1.0, 0.0], [True, False, False, True]
    leaf = torch.tensor(losses, requires_grad=True)
    seqpar.normalised_loss(leaf, torch.tensor(weights), torch.tensor(mask), total=4).backward()
    assert leaf.grad.tolist() == [0.5, 0, 0, 0]
    grad = jax.grad(
        lambda x: seqpar.normalised_loss(x, jax.numpy.asarray(weights), jax.numpy.asarray(mask), total=4)
    )
    assert grad(jax.numpy.asarray(losses)).tolist() == [0.5, 0, 0, 0]


def test_half_types_are_added_up_in_float32() -> None:
    torch = pytest.importorskip("torch")
    jnp = pytest.importorskip("jax.numpy")
    many = np.full((4, 5000), 0.1)
    for dtype in ("float16", "bfloat16"):
        x = torch.asarray(many).to(getattr(torch, dtype)).requires_grad_()
        found = seqpar.normalised_loss(x, total=x.numel())
        assert found.dtype == torch.float32 and found.item() == pytest.approx(x[0, 0].item(), rel=1e-5)
        found.backward()
        assert x.grad.dtype == x.dtype
        y = jnp.asarray(many, dtype)
        found = seqpar.normalised_loss(y, total=y.size)
        assert found.dtype == "float32" and float(found) == pytest.approx(float(y[0, 0]), rel=1e-5)


def test_total_may_be_an_array_that_is_known_later() -> None:
    jax = pytest.importorskip("jax")
    torch = pytest.importorskip("torch")
    found = jax.jit(lambda x, n, r: seqpar.normalised_loss(x, total=n, world_size=r))(jax.numpy.ones(6), 3, 2)
    assert found == 4
    assert (
        seqpar.normalised_loss(torch.ones(6), total=torch.tensor(3), world_size=torch.tensor(2)).item() == 4
    )
    assert seqpar.normalised_loss(np.ones(6), total=np.int64(3), world_size=2) == 4


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("shown", [1.0, np.inf, np.nan])
def test_of_nothing_at_all_the_loss_is_zero(rung: Rung, later: bool, shown: float) -> None:
    """Whatever the losses are, and whether the total is a number or an array."""
    losses, weights = np.array([[np.nan, 2.0], [shown, 1.0]], np.float32), np.ones(2, np.float32)
    total = rung.array(np.array(0, np.float32)) if later else 0
    found = rung.call(
        lambda x, w, n: seqpar.normalised_loss(x, w, total=n if later else 0, world_size=2),
        *map(rung.array, (losses, weights)),
        total,
    )
    assert rung.numpy(found) == 0 and rung.dtype(found) == "float32"


def test_of_nothing_at_all_the_gradient_is_zero() -> None:
    torch = pytest.importorskip("torch")
    jax = pytest.importorskip("jax")
    mask, weights = [[False, False], [True, False]], [1.0, 1.0]
    for total in (0, torch.tensor(0)):
        leaf = torch.tensor([[np.nan, 2.0], [np.inf, 1.0]], requires_grad=True)
        seqpar.normalised_loss(leaf, torch.tensor(weights), torch.tensor(mask), total=total).backward()
        assert leaf.grad.tolist() == [[0, 0], [0, 0]]
    losses = jax.numpy.asarray([[np.nan, 2.0], [np.inf, 1.0]])

    def loss(x: Any, n: Any) -> Any:
        return seqpar.normalised_loss(x, jax.numpy.asarray(weights), jax.numpy.asarray(mask), total=n)

    for found in (jax.grad(lambda x: loss(x, 0))(losses), jax.jit(jax.grad(loss))(losses, 0)):
        assert found.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("total", [np.int64(3), np.float64(3), np.array(3)])
def test_a_total_of_64_bits_does_not_widen_the_losses(total: Any) -> None:
    torch = pytest.importorskip("torch")
    found = seqpar.normalised_loss(np.ones(6, np.float32), total=total, world_size=np.int64(2))
    assert found == 4 and found.dtype == np.float32
    wide = torch.tensor(3.0, dtype=torch.float64)
    for each in (total, wide):
        assert seqpar.normalised_loss(torch.ones(6), total=each).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: seqpar.normalised_loss(x, total=-1), OptionError, "total=-1 is not a number of zero or more"),
        (lambda x: seqpar.normalised_loss(x, total=float("nan")), OptionError, "total=nan"),
        (lambda x: seqpar.normalised_loss(x, total=np.int64(-1)), OptionError, "total=-1 is not a number of zero or more"),
        (lambda x: seqpar.normalised_loss(x, total=None), OptionError, "total=None is not a number of zero or more"),
        (lambda x: seqpar.normalised_loss(x, total=1, world_size=0), OptionError, "world_size=0 is not a positive number"),
        (lambda x: seqpar.normalised_loss(x, total=np.ones(2)), ShapeError, r"total.shape=\(2,\) is not one number"),
        (lambda x: seqpar.normalised_loss(x, total=1, world_size=-1), OptionError, "world_size=-1"),
        (lambda x: seqpar.normalised_loss(x, total=1, reduction="avg"), OptionError, "reduction='avg' is not one of"),
        (lambda x: seqpar.normalised_loss(x, mask=np.ones((2, 3)), total=1), DtypeError, "mask.dtype=float64 is not boolean"),
        (lambda x: seqpar.normalised_loss(x, np.ones(2) * 1j, total=1), DtypeError, "weights.dtype=complex128 is not real"),
        (lambda x: seqpar.normalised_loss(x, np.ones(3), total=1), ShapeError, r"weights.shape=\(3,\) is not how losses.shape"),
        (lambda x: seqpar.normalised_loss(x[0], mask=x > 0, total=1), ShapeError, r"mask.shape=\(2, 3\)"),
        (lambda x: seqpar.normalised_loss(x.astype(int), total=1), DtypeError, "losses.dtype=int64 is not a real floating"),
        (lambda x: seqpar.normalised_loss([1.0], total=1), ArrayTypeError, "list is not an array"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_was_given(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(np.ones((2, 3)))


def test_losses_and_weights_of_two_frameworks_are_an_error() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ArrayTypeError, match="losses is an array of torch and weights of numpy"):
        seqpar.normalised_loss(torch.ones(2), np.ones(2), total=2)
    with pytest.raises(ArrayTypeError, match="losses is an array of numpy and total of torch"):
        seqpar.normalised_loss(np.ones(2), total=torch.tensor(2))
