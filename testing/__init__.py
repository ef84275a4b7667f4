"""What tests and benchmarks share: doubles of other systems, and labs that run the real ones."""
