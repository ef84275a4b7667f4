"""The Pulumi program: a cluster where the stack asks for one, and the service on it."""
