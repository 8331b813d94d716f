"""The web page: type a text, choose a voice, hear it, and keep what is good."""
