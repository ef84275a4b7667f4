"""`sitecustomize` of a Triton image for a node whose GPU is only a number: the server sees no GPU.

The device plugin of the test cluster hands out a device that nothing can compute on. Scheduling, quota and
the order of a roll are real with it.
"""

import sys

sys.argv[:] = [part.replace("--gpus=1", "--gpus=0") for part in sys.argv if part != "--gpu"]
