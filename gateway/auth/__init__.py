"""Who is calling: keys, GitLab tokens and signed tokens (OIDC)."""
