"""Google for tests."""
