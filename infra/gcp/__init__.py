"""Google Cloud: the network, the nodes and the GKE cluster of the service."""
