"""Importing this plants the kernels of `planted_kernels`: for the processes of a worker, which import what they are told."""

from planted_kernels import plant

plant()
