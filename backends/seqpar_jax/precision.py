"""Double precision where JAX's own arrays may be denied it: XLA computes in 64 bits whatever jax_enable_x64 says."""

from typing import Any

import jax
import jax.numpy as jnp

# JAX before 0.9 had it among the experiments.
enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else vars(jax.experimental)["enable_x64"]


def doubled(dtype: Any) -> Any:
    """Double precision for single, other types as they are. To be used under `enable_x64(True)`."""
    return {"float32": jnp.float64, "complex64": jnp.complex128}.get(jnp.dtype(dtype).name, dtype)
