"""What may not be deployed: rules as pure functions, and the pack that lets Pulumi's engine enforce them."""
