"""Reserved for the Triton kernels over CUDA memory, for torch tensors and JAX arrays. Has no kernel yet and registers none."""
