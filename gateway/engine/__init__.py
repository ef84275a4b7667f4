"""Engines: whatever generates tokens, behind one seam."""
