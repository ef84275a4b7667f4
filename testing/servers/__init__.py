"""The real servers under test, as processes of their own on the loopback."""
