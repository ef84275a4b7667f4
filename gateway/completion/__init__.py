"""From a request in our own terms to text: plan the prompt, call the engine, cut at the stop strings."""
