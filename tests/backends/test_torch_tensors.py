"""The kinds of tensors PyTorch has: views, lazy conjugates, subclasses, autocast, other layouts, forked workers."""

import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")

import seqpar  # noqa: E402
from seqpar import linear_recurrence, matrix_recurrence  # noqa: E402
from seqpar.dispatch.frameworks import binding_for  # noqa: E402
from seqpar.errors import ArrayTypeError, DtypeError  # noqa: E402
from torch_loop import LINEAR, MATRIX, RESETS, each, loop, matrix_loop  # noqa: E402

BINDING = binding_for(torch.Tensor)


@each
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]
)
def test_an_eager_call_on_the_cpu_never_runs_reference_code(of, dtype):
    a, b = (x.to(dtype) for x in of.make(shape=(2, 100, 8), h0=False))
    why = seqpar.explain(of.function, a, b)
    assert (why.backend, why.problem.framework, why.problem.device) == ("host", "torch", "cpu")


def test_views_are_read_where_they_lie(monkeypatch):
    base = torch.rand(4, 50, 6, dtype=torch.float64)
    b = base[::2, 1::3, 4:]
    a = base[0, 0, :2].expand(2, 17, 2)
    addresses = []
    monkeypatch.setattr(
        type(BINDING), "address", lambda self, x: addresses.append(x.data_ptr()) or x.data_ptr()
    )
    h = linear_recurrence(a, b)
    assert {a.data_ptr(), b.data_ptr()} <= set(addresses)
    torch.testing.assert_close(h, loop(a, b)[0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("view", ["expanded", "transposed", "sliced"])
def test_views_of_matrices_are_read_where_they_lie(view, monkeypatch):
    A, b = (x.detach() for x in MATRIX.make(shape=(4, 17, 3), h0=False))
    A = {"expanded": A[0, 0].expand(4, 17, 3, 3), "transposed": A.mT, "sliced": A[::2]}[view]
    b = b[::2] if view == "sliced" else b
    addresses = []
    monkeypatch.setattr(
        type(BINDING), "address", lambda self, x: addresses.append(x.data_ptr()) or x.data_ptr()
    )
    h = matrix_recurrence(A, b)
    assert {A.data_ptr(), b.data_ptr()} <= set(addresses)
    torch.testing.assert_close(h, matrix_loop(A, b)[0], rtol=1e-13, atol=1e-13)


@each
def test_results_share_no_memory_and_may_be_changed(of):
    a, b, h0 = (x.detach() for x in of.make(shape=(1, 1, 1)))
    for backend in (None, "reference"):
        h, final = of.function(a, b, h0, return_final=True, backend=backend)
        kept = [x.clone() for x in (a, b, h0, final)]
        h.fill_(7)
        assert all(torch.equal(x, y) for x, y in zip((a, b, h0, final), kept, strict=True))


@each
def test_lazy_conjugates_and_negatives_are_resolved(of):
    y, z = (x.detach() for x in of.make(shape=(2, 6, 3), dtype=torch.complex128, h0=False))
    assert y.conj().is_conj()
    assert y.conj().imag.is_neg()
    torch.testing.assert_close(of.function(y.conj(), z), of.loop(y.conj().resolve_conj(), z)[0])
    parts = [x.conj().imag for x in (y, z)]
    torch.testing.assert_close(of.function(*parts), of.loop(*[x.resolve_neg() for x in parts])[0])


@each
def test_parameters_and_plain_tensors_mix(of):
    a, b = (x.detach() for x in of.make(h0=False))
    h = of.function(torch.nn.Parameter(a), b)
    assert type(h) is torch.Tensor
    assert h.requires_grad


@each
def test_a_subclass_keeps_its_type_and_its_gradients(of):
    class Marked(torch.Tensor):
        pass

    a, plain = (x.detach() for x in of.make(h0=False))
    b = plain.as_subclass(Marked)
    h = of.function(a, b)
    assert type(h) is Marked
    torch.testing.assert_close(h.as_subclass(torch.Tensor), of.function(a, plain))
    a.requires_grad_()
    (da,) = torch.autograd.grad(of.function(a, b).sum(), a)
    (wanted,) = torch.autograd.grad(of.function(a, plain).sum(), a)
    torch.testing.assert_close(da.as_subclass(torch.Tensor), wanted)


@each
def test_a_wrapper_subclass_sees_the_operator(of):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    a, b = of.make(h0=False)
    with Watch():
        h = of.function(a, b)
        h.sum().backward()
    assert {f"seqpar.{of}.default", f"seqpar.{of}_backward.default"} <= set(seen)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", [None, "reference"])
def test_autocast_changes_no_dtype_and_no_value(of, dtype, backend):
    a, b = (x.detach().to(dtype).requires_grad_() for x in of.make(shape=(2, 40, 3), h0=False))
    wanted = of.function(a, b, backend=backend, return_final=True)
    grads = torch.autograd.grad(wanted.h.sum(), (a, b))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = of.function(a, b, backend=backend, return_final=True)
    assert [x.dtype for x in found] == [dtype, torch.float32]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(found.h.sum(), (a, b)), grads, rtol=0, atol=0)


@each
def test_no_grad_and_inference_mode_make_no_graph(of):
    given = of.make()
    with torch.no_grad():
        assert not of.function(*given).requires_grad
    with torch.inference_mode():
        h = of.function(*given)
        assert h.is_inference()
    torch.testing.assert_close(h.clone(), of.function(*given).detach(), rtol=0, atol=0)


@each
def test_eager_results_with_and_without_gradients_are_bitwise_equal(of):
    given = of.make(shape=(3, 100, 7))
    plain = of.function(*[x.detach() for x in given], resets=None, return_final=True)
    watched = of.function(*given, return_final=True)
    assert all(torch.equal(x, y) for x, y in zip(plain, watched, strict=True))


@each
def test_meta_tensors_give_shapes(of):
    a, b = (x.detach().to("meta") for x in of.make(h0=False))
    a, b = a.float(), b.half()
    h, final = of.function(a, b, return_final=True)
    assert (h.device.type, h.shape, h.dtype) == ("meta", (2, 5, 3), torch.float16)
    assert (final.shape, final.dtype) == ((2, 3), torch.float32)


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support is in beta", "ignore:The PyTorch API of nested tensors"
)
@pytest.mark.parametrize(
    "make_it",
    [
        lambda: torch.rand(5, 3).to_sparse(),
        lambda: torch.rand(5, 3).to_sparse_csr(),
        lambda: torch.nested.nested_tensor([torch.rand(5, 3), torch.rand(4, 3)]),
    ],
    ids=["sparse", "csr", "nested"],
)
def test_tensors_without_strides_are_refused_with_advice(make_it):
    with pytest.raises(ArrayTypeError, match=r"Give a dense tensor"):
        linear_recurrence(0.5, make_it())


def test_integer_and_quantised_tensors_are_refused_with_advice():
    with pytest.raises(DtypeError, match="Cast it first"):
        linear_recurrence(torch.ones(5, 3, dtype=torch.int64), torch.rand(5, 3))
    with pytest.raises(DtypeError, match="Cast it first"):
        linear_recurrence(0.5, torch.rand(5, 3).to(torch.float8_e5m2))


@each
@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0)], ids=str)
def test_empty_axes_keep_the_graph(of, shape):
    a, b = of.make(shape=shape, h0=False)
    of.function(a, b).sum().backward()
    assert a.grad is not None
    assert (a.grad.shape, b.grad.shape) == (a.shape, b.shape)


def test_an_object_sized_default_device_is_respected():
    with torch.device("meta"):  # results follow their operands, not the default device
        h = linear_recurrence(torch.ones(2, 5, 3, device="cpu"), torch.ones(2, 5, 3, device="cpu"))
    assert h.device.type == "cpu"
    assert float(h[0, -1, 0]) == 5.0


@pytest.mark.parametrize(
    ("of", "flags"),
    [
        (LINEAR, {}),
        (LINEAR, {"gate": "logit", "convex": True, "reverse": True, "resets": RESETS}),
        (MATRIX, {}),
    ],
    ids=["linear", "linear-flags", "matrix"],
)
def test_thread_setting_changes_no_bit(of, flags):
    a, b, h0 = (x.detach() for x in of.make(shape=(2, 5, 4096) if of is LINEAR else (300, 100, 4)))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert BINDING.threads() == threads
            results.append(of.function(a, b, h0, **flags))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@each
def test_many_python_threads_differentiate_at_once(of):
    from concurrent.futures import ThreadPoolExecutor

    given = of.make(shape=(2, 200, 16))
    wanted = torch.autograd.grad(of.function(*given).sin().sum(), given)

    def work(_):
        return torch.autograd.grad(of.function(*given).sin().sum(), given)

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(32)):
            assert all(torch.equal(x, y) for x, y in zip(found, wanted, strict=True))


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_forked_dataloader_workers_run_kernels_after_the_parent_did():
    out = run(
        """
        import torch, seqpar
        from torch.utils.data import DataLoader, Dataset

        def work(i):
            b = torch.full((4, 2000, 64), float(i))
            return seqpar.linear_recurrence(torch.full((64,), 0.5), b)

        class Data(Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return work(i)[:, -1]

        if __name__ == "__main__":
            a = torch.full((4, 2000, 64), 0.5, requires_grad=True)
            seqpar.linear_recurrence(a, torch.ones(4, 2000, 64)).sum().backward()
            got = torch.cat(list(DataLoader(Data(), num_workers=2, multiprocessing_context="fork")))
            print(bool(torch.allclose(got[:, 0, 0], 2 * torch.arange(4.0))))
        """
    )
    assert out.strip() == "True"


def test_importing_seqpar_and_its_torch_backend_imports_no_torch():
    out = run("import sys, seqpar, seqpar_torch; seqpar_torch.backend(); print('torch' in sys.modules)")
    assert out.strip() == "False"


def test_the_first_use_may_be_inside_a_compiled_function():
    out = run(
        """
        import torch, seqpar
        f = torch.compile(lambda a, b: seqpar.linear_recurrence(a, b), backend="aot_eager", fullgraph=True)
        print(f(torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1)).flatten().tolist())
        """
    )
    assert out.strip() == "[1.0, 1.5, 1.75]"


def test_results_in_huge_pages_are_the_results_in_small_ones() -> None:
    from seqpar_torch import memory

    a, b = torch.rand(2, 2048, 520), torch.randn(2, 2048, 520)  # results of 8.5 MB
    huge = seqpar.linear_recurrence(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_madvise", lambda: None)
        small = seqpar.linear_recurrence(a, b)
    assert torch.equal(huge, small)
