"""The gateway: editors' HTTP dialects in front, a token engine behind.

The way of a request::

    http/middleware     request id, access log, CORS, drain, size and time of the body
    auth                who is calling
    dialects            the client's format, to a CompletionRequest and back
    completion          plan, run and account for a request
    admission           slots at the engine, the queue for them, callers' limits
    text                tokenizer, prompts, stop strings, decoding
    engine              Triton or an OpenAI-compatible server, behind one protocol

``app.create_app`` builds the application from ``settings.Settings``; ``edge`` and ``wiring`` put the parts
together. ``jobs`` is the queue of work that is fetched later, ``worker`` the process that runs it.
``python -m gateway`` and ``python -m gateway.worker`` are the two programs.
"""
