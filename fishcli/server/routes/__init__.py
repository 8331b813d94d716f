"""The routes, by the API that they belong to."""
