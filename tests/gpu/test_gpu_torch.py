"""PyTorch on a GPU: derivatives, torch.compile, CUDA graphs, streams. On the CPU the same tests do without graphs and streams."""

import contextlib
import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import seqpar  # noqa: E402
from places import TORCH, over  # noqa: E402
from seqpar.testing import oracle  # noqa: E402
from torch_loop import LINEAR, MATRIX, each  # noqa: E402

pytestmark = [over(TORCH), pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]

ORDER = 1e-12
"""How far two calls may be apart where kernels that add in any order are admitted, in float64."""


def there(place, tensors):
    """Copies on the device, leaves that require gradients if the originals do."""
    return [x.detach().to(place.device).requires_grad_(x.requires_grad) for x in tensors]


def close(found, wanted, rtol=1e-11):
    for x, y in zip(found, wanted, strict=True):
        torch.testing.assert_close(x.cpu(), y.cpu(), rtol=rtol, atol=rtol)


def plain(place, shape=(3, 301, 40), dtype=torch.float32):
    """a and b without gradients."""
    return [x.detach().to(dtype) for x in there(place, LINEAR.make(shape=shape, h0=False))]


def gradients(a, b, weight):
    a, b = a.detach().requires_grad_(), b.detach().requires_grad_()
    h = seqpar.linear_recurrence(a, b)
    return [h.detach(), *torch.autograd.grad(h, (a, b), weight)]


# --- derivatives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"gate": "log"}], ids=str)
@each
def test_gradients_equal_differences(of, options, dtype, place):
    if of is MATRIX and "gate" in options:
        pytest.skip("matrices have no gates")
    given = there(place, of.make(dtype=dtype))
    function = functools.partial(of.function, return_final=True, **options)
    assert torch.autograd.gradcheck(function, given, nondet_tol=ORDER)


@pytest.mark.parametrize("shape", [(), (3,), (5, 1)], ids=str)
def test_gradients_of_coefficients_that_broadcast_equal_differences(shape, place):
    given = there(place, LINEAR.make(a_shape=shape))
    assert torch.autograd.gradcheck(seqpar.linear_recurrence, given, nondet_tol=ORDER)


@each
def test_second_derivatives_equal_differences(of, place):
    given = there(place, of.make(shape=(1, 4, 2)))
    assert torch.autograd.gradgradcheck(of.function, given, nondet_tol=ORDER)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.complex64], ids=str)
@pytest.mark.parametrize("axis", [1, 2])
def test_gradients_of_long_sequences_are_within_their_bound(axis, dtype, place):
    rng = np.random.default_rng(0)
    kind = "complex64" if dtype.is_complex else "float32"
    given = [rng.uniform(-0.9, 0.9, (3, 1030, 1030 if axis == 2 else 7)[: axis + 1]) for _ in range(3)]
    if axis == 2:
        given = [x[:, :9] for x in given]
    a, b, g = (torch.from_numpy(x.astype(kind)).to(place.device, dtype) for x in given)
    a.requires_grad_(), b.requires_grad_()
    h = seqpar.linear_recurrence(a, b, axis=axis)
    found = torch.autograd.grad(h, (a, b), g.conj())
    # NumPy's side of the definition reads half precision as it was rounded, and bfloat16 as float32.
    own = [place.numpy(x) for x in (a, b, h, g)]
    if dtype == torch.bfloat16:
        own = [x.astype(pytest.importorskip("ml_dtypes").bfloat16) for x in own]
    own_a, own_b, own_h, own_g = own
    exact = oracle.backward(own_a, own_b, None, None, own_h, own_g, None, axis=axis)
    bounds = oracle.backward_error_bound(own_a, own_b, None, None, own_g, None, axis=axis)
    for name, x, y, bound in zip(("da", "db"), found, exact, bounds, strict=False):
        # PyTorch's gradient is the conjugate of the transpose applied to the conjugate.
        oracle.assert_within(place.numpy(x.conj()), y, bound, name)


@each
def test_vmap_and_per_example_gradients_equal_a_loop_over_examples(of, place):
    a, b, h0 = (x.detach() for x in there(place, of.make(shape=(4, 33, 3))))

    def loss(a, b, h0):
        return of.function(a, b, h0).square().sum()

    close([torch.func.vmap(of.function)(a, b, h0)], [of.function(a, b, h0)])
    found = torch.func.vmap(torch.func.grad(loss, (0, 1, 2)))(a, b, h0)
    wanted = torch.func.grad(lambda *x: loss(*x), (0, 1, 2))(a, b, h0)
    close(found, wanted)


# --- compilers and graphs ---------------------------------------------------------------------------------------------------


@each
def test_compiled_as_one_graph_values_and_gradients_equal_eager_ones(of, place):
    torch._dynamo.reset()
    given = there(place, of.make(shape=(2, 130, 4)))

    def function(a, b, h0):
        return of.function(a * 1.01, b, h0).sin()

    # On the CPU the compiler for C++ has tests of its own.
    whole = torch.compile(function, fullgraph=True, backend="inductor" if place.on_gpu else "aot_eager")
    found, wanted = whole(*given), function(*given)
    close([found], [wanted])
    close(torch.autograd.grad(found.sum(), given), torch.autograd.grad(wanted.sum(), given))
    torch._dynamo.reset()


def captured(place, function):
    """A function without arguments as a CUDA graph: calling it replays; elsewhere the function itself."""
    if not place.on_gpu:
        return function
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()

    def replay():
        graph.replay()
        return results

    return replay


@pytest.mark.parametrize("shape", [(3, 301, 40), (1, 40_000, 2), (1, 8, 4)], ids=str)
def test_a_cuda_graph_replays_on_new_values_forward_and_backward(shape, place):
    a, b = plain(place, shape)
    weight = torch.randn_like(b)
    replay = captured(place, lambda: gradients(a, b, weight))
    for seed in (1, 2):
        fresh = [x.detach().float().to(place.device) for x in LINEAR.make(seed=seed, shape=shape, h0=False)]
        for x, y in zip((a, b), fresh, strict=True):
            x.copy_(y)
        found = [x.clone() for x in replay()]
        with seqpar.options(backend="reference"):
            wanted = gradients(*fresh, weight)
        close(found, wanted, rtol=2e-4)


# --- streams ----------------------------------------------------------------------------------------------------------------


def test_kernels_run_on_the_current_stream(place):
    a, b = plain(place)
    weight = torch.randn_like(b)
    fresh = plain(place)[0].flip(1).contiguous(), b.flip(1).contiguous()
    wanted = gradients(*fresh, weight)
    gradients(a, b, weight)
    if place.on_gpu:
        torch.cuda.synchronize()
    with place.lingering():
        # Kernels on any other stream would read a and b before these copies.
        a.copy_(fresh[0]), b.copy_(fresh[1])
        found = gradients(a, b, weight)
    if place.on_gpu:
        torch.cuda.synchronize()
    close(found, wanted, rtol=1e-5)


@contextlib.contextmanager
def no_synchronisation(place):
    if not place.on_gpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("shape", [(3, 301, 40), (1, 40_000, 2), (5, 7, 3)], ids=str)
def test_nothing_waits_for_the_device_not_even_a_first_call(shape, place):
    a, b = plain(place, shape)
    weight = torch.randn_like(b)
    h0 = torch.randn((shape[0], shape[2]), device=b.device)
    resets = torch.rand(shape[:2], device=b.device) < 0.1
    A, c = (x.detach() for x in there(place, MATRIX.make(shape=(2, 65, 4), h0=False)))
    with no_synchronisation(place):
        found = gradients(a, b, weight)
        more = seqpar.linear_recurrence(a, b, h0, resets=resets, return_final=True, reverse=True)
        number = seqpar.linear_recurrence(0.5, b, 2.0)
        states = seqpar.matrix_recurrence(A, c)
    close(found[:1], [seqpar.linear_recurrence(a, b, backend="reference")], rtol=2e-4)
    close([more.final], [more.h[:, 0]], rtol=1e-6)
    close([number], [seqpar.linear_recurrence(torch.full_like(b, 0.5), b, 2.0)], rtol=1e-5)
    close([states], [MATRIX.loop(A, c)[0]])
