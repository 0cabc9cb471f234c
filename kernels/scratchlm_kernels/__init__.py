"""Fused kernels: other implementations of the ops, with the same signature and the same result."""
