"""``python -m testing.lab``: the lab's command line."""

import sys

from testing.lab.cli import main

sys.exit(main())
