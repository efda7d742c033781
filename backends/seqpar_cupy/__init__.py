"""Reserved for the CUDA C++ kernels for CuPy arrays. Has no kernel yet and registers none."""
