"""What Prometheus gets of a stack: scrape configurations, recording rules and alerts, made from the stack."""
