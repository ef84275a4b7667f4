"""What tests and benchmarks share: doubles, servers under test, labs, recorded requests."""
