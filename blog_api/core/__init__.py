"""Settings, fields, errors, security primitives and telemetry."""
