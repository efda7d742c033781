"""Products of matrices are formed in the precision of the state, whatever PyTorch's switches say, and no switch is touched."""

import pytest

torch = pytest.importorskip("torch")

from seqpar import matrix_recurrence  # noqa: E402
from torch_loop import MATRIX  # noqa: E402

# PyTorch scripts its own decompositions when forward mode is first used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

DEVICES = [
    "cpu",
    # Where TF32 exists: 3 significant digits in every product that obeys the switch.
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]
METHODS = [None, "sequential", "chunked", "tree"]
PRODUCTS = {
    f"aten::{name}" for name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "vdot", "linear")
}


def switches():
    """Every switch of PyTorch that makes products of float32 less precise."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn, torch.backends.mkldnn.matmul)
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        *(getattr(kind, "fp32_precision", None) for kind in kinds),
    )


@pytest.fixture
def medium():
    """The switch thrown, and put back afterwards."""
    before = torch.get_float32_matmul_precision()

    def throw():
        torch.set_float32_matmul_precision("medium")

    yield throw
    torch.set_float32_matmul_precision(before)


def everything(method, device, shape):
    """States, first and second derivatives by every rule, in float32."""
    forced = {} if method is None else {"backend": "reference", "method": method}
    made = MATRIX.make(shape=shape, columns=shape[-1])
    given = [x.detach().float().to(device).requires_grad_() for x in made]

    def loss(*given):
        h, final = matrix_recurrence(*given, columns=True, return_final=True, **forced)
        return h.square().sum() + final.sin().sum()

    h = matrix_recurrence(*given, columns=True, **forced)
    first = torch.autograd.grad(loss(*given), given, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), given)
    plain = [x.detach() for x in given]
    _, forward = torch.func.jvp(loss, tuple(plain), tuple(x.cos() for x in plain))
    constant = torch.func.grad(loss)(plain[0][0, 0], *plain[1:])
    return [x.detach() for x in (h, *first, *second, forward, constant)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
def test_a_switch_for_less_precise_products_changes_no_bit_and_is_left_alone(method, device, medium):
    if device == "cuda" and method is None:
        method = "sequential"  # a GPU has no kernels of its own yet
    wanted = everything(method, device, (2, 12, 16))
    medium()
    before = switches()
    found = everything(method, device, (2, 12, 16))
    assert switches() == before
    assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_no_product_of_the_library_is_ever_called(method):
    """The switches bind library products alone, and on this processor perhaps not even those: so there must be none."""
    with torch.autograd.profiler.profile(use_kineto=False) as profile:
        everything(method, "cpu", (1, 20, 2))
    called = {event.name for event in profile.function_events}
    assert "aten::mul" in called
    assert not called & PRODUCTS
