"""The gateway: editors' HTTP dialects in front, a token engine behind."""
