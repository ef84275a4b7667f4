"""``python -m testing.gcp``: what ``bin/pulumi-resource-gcp`` starts."""

import sys

from testing.gcp.server import main

sys.exit(main())
