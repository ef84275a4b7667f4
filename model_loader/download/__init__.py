"""One file from one source: segments, resume, retries, stall detection and checksums."""
