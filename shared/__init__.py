"""What every service needs: settings, database, objects, JSON lines, errors, telemetry."""
