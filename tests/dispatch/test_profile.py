"""Hardware profiles: what they tell, what hash they have, which ones count as alike."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqpar.dispatch import gpu_profile, profile
from seqpar.dispatch.frameworks import binding_named
from seqpar.dispatch.gpu_profile import gpus
from seqpar.dispatch.profile import HardwareProfile, host_profile, minor
from seqpar.dispatch.store import profile_for

CARD = HardwareProfile(
    device="cuda",
    name="NVIDIA H200",
    facts=(("compute_capability", "9.0"), ("processors", 132), ("driver", "570"), ("memory", "139G")),
    tools=(("seqpar", "0.1.0"), ("triton", "3.6.0"), ("torch", "2.11")),
)


def changed(**tools: str) -> HardwareProfile:
    return dataclasses.replace(CARD, tools=tuple({**dict(CARD.tools), **tools}.items()))


def with_facts(**facts: str | int) -> HardwareProfile:
    return dataclasses.replace(CARD, facts=tuple({**dict(CARD.facts), **facts}.items()))


def test_the_host_tells_model_cores_threads_instructions_caches_and_tools() -> None:
    found = host_profile()
    facts, tools = dict(found.facts), dict(found.tools)
    assert found.name and facts["machine"]
    assert 1 <= int(facts["threads"]) <= int(facts["cores"])
    assert {"simd"} <= set(facts) and {"seqpar", "numba", "llvmlite", "numpy"} <= set(tools)
    assert all(tools[name] for name in ("seqpar", "numba", "llvmlite", "numpy"))


def test_caches_and_model_are_read_as_linux_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = tmp_path / "cache"
    for i, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2048K")]
    ):
        folder = caches / f"index{i}"
        folder.mkdir(parents=True)
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "cpuinfo").write_text("model name\t: Model 9\nflags\t\t: fpu avx2 fma\n")
    real = profile.Path

    def elsewhere(path: str | Path) -> Path:
        return real(
            str(path).replace("/proc/", f"{tmp_path}/").replace("/sys/devices/system/cpu/cpu0", str(tmp_path))
        )

    monkeypatch.setattr(profile, "Path", elsewhere)
    found = host_profile.__wrapped__()
    facts = dict(found.facts)
    assert found.name == "Model 9"
    assert (facts["simd"], facts["L1"], facts["L2"]) == ("avx2 fma", "48K", "2048K")


def test_a_limit_of_threads_is_another_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "usable_cores", lambda: 8)
    assert dict(host_profile.__wrapped__((), 3).facts)["threads"] == 3
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert dict(host_profile.__wrapped__((), 3).facts)["threads"] == 2


def test_the_digest_is_stable_and_depends_on_everything() -> None:
    assert CARD.digest == dataclasses.replace(CARD).digest == "bdfb04d3eb778f75"
    others = (
        changed(triton="3.6.1"),
        changed(seqpar="0.2.0"),
        with_facts(driver="580"),
        with_facts(processors=114),
    )
    assert len({CARD.digest, *(one.digest for one in others)}) == 5


def test_a_profile_survives_json() -> None:
    again = HardwareProfile.from_dict(json.loads(json.dumps(CARD.to_dict())))
    assert (again, again.digest) == (CARD, CARD.digest)


def test_kin_are_the_same_chip_with_compilers_of_the_same_minor_version() -> None:
    for alike in (
        changed(triton="3.6.9"),
        changed(seqpar="0.2.0"),
        with_facts(driver="580"),
        with_facts(memory="140G"),
    ):
        assert CARD.kin(alike)
    for other in (
        changed(triton="3.7.0"),
        with_facts(processors=114),
        dataclasses.replace(CARD, name="NVIDIA H100"),
        dataclasses.replace(CARD, device="cpu"),
    ):
        assert not CARD.kin(other)


def test_differences_name_there_and_here() -> None:
    assert CARD.differences(changed(triton="3.7.0")) == ["triton 3.7.0 (here 3.6.0)"]
    assert CARD.differences(with_facts(L2=5)) == ["L2 5 (here absent)"]


def test_minor_versions_leave_out_what_seldom_moves_times() -> None:
    assert [minor(text) for text in ("2.11.0+cu130", "3.6", "0.10.2")] == ["2.11", "3.6", "0.10"]


def test_every_framework_has_a_profile_of_its_own_on_the_host() -> None:
    own = {name: profile_for(name, "cpu") for name in ("numpy", "array_api_strict")}
    assert all(own.values()) and len({one.digest for one in own.values() if one}) == 2
    assert binding_named("numpy").profile("cuda") is None


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_framework_adds_its_tools(framework: str) -> None:
    pytest.importorskip(framework)
    found = binding_named(framework).profile("cpu")
    assert found is not None and found.device == "cpu"
    assert dict(found.tools)[{"torch": "torch", "jax": "jaxlib"}[framework]]


def test_without_a_driver_there_is_no_gpu_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_profile, "_driver", lambda: None)
    assert gpus() == []
    assert gpu_profile._probed.__wrapped__(0) is None


class Driver:
    """Stands for libcuda: answers as a card with two multiprocessors does."""

    def _set(self, pointer: object, value: int) -> int:
        pointer._obj.value = value  # type: ignore[attr-defined]
        return 0

    def cuDeviceGetCount(self, count: object) -> int:
        return self._set(count, 1)

    def cuDeviceGet(self, device: object, number: int) -> int:
        return self._set(device, number)

    def cuDeviceGetName(self, name: object, size: int, device: object) -> int:
        name.value = b"Card 9"  # type: ignore[attr-defined]
        return 0

    def cuDeviceTotalMem_v2(self, memory: object, device: object) -> int:
        return self._set(memory, 139 * 2**30 + 12345)

    def cuDriverGetVersion(self, version: object) -> int:
        return self._set(version, 12080)

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: object) -> int:
        return self._set(value, {16: 2, 75: 9, 76: 0}.get(attribute, 1024))


def test_a_gpu_tells_name_capability_processors_cache_memory_and_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_profile, "_driver", Driver)
    monkeypatch.setattr(gpu_profile, "_driver_branch", lambda: "570")
    gpu_profile._probed.cache_clear()
    try:
        (found,) = gpus()
    finally:
        gpu_profile._probed.cache_clear()
    facts = dict(found.facts)
    assert (found.device, found.name) == ("cuda", "Card 9")
    assert (facts["compute_capability"], facts["processors"], facts["L2"]) == ("9.0", 2, 1024)
    assert (facts["memory"], facts["driver"], facts["cuda"]) == ("139G", "570", "12.8")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that seems to have one GPU."""
    monkeypatch.setattr(gpu_profile, "_driver", Driver)
    gpu_profile._probed.cache_clear()
    yield
    gpu_profile._probed.cache_clear()


@pytest.mark.usefixtures("card")
def test_torch_adds_its_version_and_tritons_to_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    found = binding_named("torch").profile("cuda")
    assert found is not None and found.name == "Card 9"
    assert [name for name, _ in found.tools] == ["seqpar", "torch", "triton"]
    assert binding_named("torch").profile("mps") is None


def test_a_gpu_that_cudas_driver_does_not_know_is_told_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    class Told:
        name, gcnArchName, multi_processor_count = "Card of another maker", "gfx942", 304
        major, minor, total_memory = 9, 4, 192 * 2**30

    monkeypatch.setattr(gpu_profile, "_driver", lambda: None)
    gpu_profile._probed.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: Told)
    found = binding_named("torch").profile("cuda")
    gpu_profile._probed.cache_clear()
    assert found is not None and found.name == "Card of another maker"
    assert dict(found.facts) | {"driver": ""} == {
        **{"architecture": "gfx942", "processors": 304, "L2": 0, "memory": "192G", "driver": ""}
    }


@pytest.mark.usefixtures("card")
def test_jax_adds_its_compilers_to_its_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")

    class Device:
        platform, local_hardware_id = "gpu", 0

    monkeypatch.setattr(jax, "local_devices", lambda: [Device])
    found = binding_named("jax").profile("cuda")
    assert found is not None and found.name == "Card 9"
    assert [name for name, _ in found.tools] == ["seqpar", "jaxlib", "triton", "jax-triton"]
    assert binding_named("jax").profile("tpu") is None


@pytest.mark.gpu
def test_this_gpu_is_told_alike_by_torch_and_by_the_driver() -> None:
    torch = pytest.importorskip("torch")
    if not gpus():
        pytest.skip("no GPU of NVIDIA")
    found = binding_named("torch").profile("cuda")
    assert found is not None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    facts = dict(found.facts)
    assert found.name == properties.name
    assert facts["compute_capability"] == f"{properties.major}.{properties.minor}"
    assert facts["processors"] == properties.multi_processor_count
    assert facts["L2"] == properties.L2_cache_size
