"""Authentication: API keys, GitLab access tokens, and tokens that GitLab signs (OIDC)."""
