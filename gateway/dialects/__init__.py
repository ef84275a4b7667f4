"""The HTTP dialects that clients speak; each maps to and from the one completion pipeline."""
