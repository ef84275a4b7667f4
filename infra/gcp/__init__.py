"""Google Cloud: the network, the nodes and the GKE cluster that the service runs on."""
