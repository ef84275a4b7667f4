"""A Kubernetes of one machine for tests: real programs, its state in one folder, nothing left when it ends.

``Simulated`` needs no root: a real control plane whose nodes and pods are simulated by kwok. ``Real`` needs root: the
same control plane and a real node (kubelet, containerd, kube-proxy, DNS, metrics) in namespaces of their own.
"""
