"""The HTTP client of Fish Speech's API, for our server and any other one. It needs no model."""
