"""Dialects: the request and response formats of OpenAI, FauxPilot, llama.cpp, GitLab, Copilot, and jobs."""
