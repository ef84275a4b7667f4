"""The HTTP server around the routes: uvicorn, middlewares, health, drain, error handlers."""
