"""XLA without most of its optimisations: compiling is most of what JAX takes in tests, and their arrays are small."""

import os

LOOPS = "--xla_cpu_use_fusion_emitters=false"
"""Emit fused loops for the CPU the shorter way. What the user says in XLA_FLAGS goes behind it."""


def on_devices(count: int, *, x64: bool) -> dict[str, str]:
    """The environment of a process in which JAX has so many devices."""
    flags = f"{LOOPS} {os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    own = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": str(int(x64)), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return {**os.environ, "XLA_FLAGS": flags, **own}
