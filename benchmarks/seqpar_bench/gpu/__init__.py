"""One command that tests and measures the library on the GPU at hand: `python -m seqpar_bench.gpu FOLDER`."""
