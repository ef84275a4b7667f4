"""The pipeline behind every dialect: plan a request, run it on the engine, and account for what it used."""
