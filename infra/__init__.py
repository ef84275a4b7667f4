"""The Pulumi program: the cluster, with target gke, and the service on it."""
