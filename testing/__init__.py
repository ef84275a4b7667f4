"""What the tests and the benchmarks stand on: doubles of other people's services, and places to run ours."""
