"""Everything between a connection and the completion pipeline: who is calling, how much, and for how long.

``Edge(settings)`` (``api.edge.assembly``) builds the parts once per app::

    edge = Edge(settings)
    edge.install(app, ready=engine.ready)      # middlewares, health routes, app.state.edge
    async with edge.running():                 # inside the lifespan: metrics port, HTTP client, Redis
        ...

A route then uses ``Depends(authenticate)`` from ``api.edge.auth``, ``edge.admission.slot(caller,
request_id)``, ``edge.admission.charge(caller, tokens)`` and ``edge.metrics``. ``api.edge.server.serve(app,
settings)`` runs uvicorn with header time-outs and a drain on SIGTERM.
"""
