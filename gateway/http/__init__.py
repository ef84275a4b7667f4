"""The HTTP server around the routes: uvicorn, middlewares, health routes, drain, exception handlers."""
