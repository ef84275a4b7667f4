"""`assist plan` for target ``gke``: what would stop `pulumi up`, and what it would cost, before it spends."""
