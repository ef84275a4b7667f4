"""`assist plan` for target ``gke``: what would prevent `pulumi up`, and the price of the result."""
