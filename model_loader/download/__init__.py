"""The download of one file from one source: segments, resume, retries, stall detection, checksums."""
