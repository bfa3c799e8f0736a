"""The Lambda services of the monorepo, one package each."""
