"""The workloads on any Kubernetes cluster: one component a file, composed by ``workloads.py``."""
