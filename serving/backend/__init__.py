"""The Python backend: FasterTransformer's tensors in front, a runtime behind, a scheduler between.

This package is copied whole into the Triton model repository and runs in Triton's stub process, so it imports
nothing of the project but itself (relatively), and of others only numpy and the runtime's own wheel.
"""
