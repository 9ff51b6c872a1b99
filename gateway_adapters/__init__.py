"""Payment gateways: one module each, the webhook sidecar, and the sandbox gateway."""
