"""Triton kernels, one module per op, with functions named and called like the torch ops; imported when a CUDA tensor first needs them."""
