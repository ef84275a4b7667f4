"""The Python backend for Triton: reads FasterTransformer's tensors, schedules rows, calls a runtime.

The whole package is copied into the Triton model repository and runs in Triton's stub process. It therefore
imports no other package of this project (and itself relatively), and otherwise only numpy and the wheel of a
runtime.
"""
