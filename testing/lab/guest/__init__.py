"""Programs that are put into hosts and run there, each on its own: standard library alone."""
